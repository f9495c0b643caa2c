# Warnings, visibility and sanitizers of every target of ours.
option(RNNFAST_WERROR "Treat warnings as errors" OFF)
set(RNNFAST_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread")

function(rnnfast_check target)
  target_compile_options(${target} PRIVATE -Wall -Wextra)
  if(RNNFAST_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(RNNFAST_SANITIZE)
    # -O1 comes after the target's own level: instrumented kernels compile ten times as fast.
    target_compile_options(${target} PRIVATE -fsanitize=${RNNFAST_SANITIZE} -g -O1
                                             -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${RNNFAST_SANITIZE})
  endif()
  set_target_properties(
    ${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                         VISIBILITY_INLINES_HIDDEN ON)
endfunction()
