# The instruction sets of each architecture, worst first, and the flags of each. One line here and
# one file in cpp/simd make a new one; the dispatcher's list is generated from this.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(RNNFAST_INSTRUCTION_SETS baseline avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(RNNFAST_INSTRUCTION_SETS neon)
else()
  set(RNNFAST_INSTRUCTION_SETS baseline)
endif()

set(RNNFAST_FLAGS_baseline "")
set(RNNFAST_FLAGS_avx2 -mavx2 -mfma)
set(RNNFAST_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
    -mprefer-vector-width=512)
set(RNNFAST_FLAGS_neon "")

# One object library for every instruction set and element type, all linked into `target`.
function(rnnfast_add_kernels target)
  foreach(isa IN LISTS RNNFAST_INSTRUCTION_SETS)
    foreach(real float double)
      set(library kernels_${isa}_${real})
      add_library(${library} OBJECT ${PROJECT_SOURCE_DIR}/cpp/kernels/kernels.cpp)
      target_compile_definitions(
        ${library} PRIVATE RNNFAST_ISA=${isa} RNNFAST_REAL=${real} RNNFAST_TABLE=table_${real})
      target_compile_options(${library} PRIVATE ${RNNFAST_FLAGS_${isa}} -O3 -fno-math-errno)
      rnnfast_check(${library})
      target_link_libraries(${target} PRIVATE ${library})
    endforeach()
    string(APPEND entries " X(${isa})")
  endforeach()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/instruction_sets.hpp CONTENT
       "#pragma once\n#define RNNFAST_INSTRUCTION_SETS(X)${entries}\n")
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()
