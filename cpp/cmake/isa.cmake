# THE list of instruction sets of each architecture, worst first, with their flags; the dispatcher's
# is made of it. What else a new one needs is told in CONTRIBUTING.md, "Add an instruction set". A set
# that adds to another only what some formats need names it as its base and takes all else from there.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(RNNFAST_ALL_SETS baseline avx2 avx512 avx512vnni avx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(RNNFAST_ALL_SETS neon)
else()
  set(RNNFAST_ALL_SETS baseline)
endif()

set(RNNFAST_FLAGS_baseline "")
set(RNNFAST_FLAGS_avx2 -mavx2 -mfma)
set(RNNFAST_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
    -mprefer-vector-width=512)
set(RNNFAST_FLAGS_avx512vnni ${RNNFAST_FLAGS_avx512} -mavx512vnni)
set(RNNFAST_FLAGS_avx512bf16 ${RNNFAST_FLAGS_avx512vnni} -mavx512bf16)
set(RNNFAST_FLAGS_neon "")

# The formats of kernels/format.hpp.
set(RNNFAST_FORMATS float double bfloat16 int8)
set(RNNFAST_TYPE_float Native<float>)
set(RNNFAST_TYPE_double Native<double>)
set(RNNFAST_TYPE_bfloat16 BFloat16)
set(RNNFAST_TYPE_int8 Int8)

set(RNNFAST_BASE_avx512vnni avx512)
set(RNNFAST_ADDS_avx512vnni int8)
set(RNNFAST_BASE_avx512bf16 avx512vnni)
set(RNNFAST_ADDS_avx512bf16 bfloat16)

set(RNNFAST_INSTRUCTION_SETS "" CACHE STRING
    "Instruction sets to compile kernels for, such as baseline; empty: all of the architecture")

# Those, in their order, with what they are based on. The worst of an architecture is its baseline,
# whatever its name.
function(rnnfast_choose_sets chosen)
  foreach(isa IN LISTS RNNFAST_INSTRUCTION_SETS)
    if(isa STREQUAL "baseline")
      list(GET RNNFAST_ALL_SETS 0 isa)
    elseif(NOT isa IN_LIST RNNFAST_ALL_SETS)
      list(JOIN RNNFAST_ALL_SETS ", " all)
      message(FATAL_ERROR "RNNFAST_INSTRUCTION_SETS has '${isa}', expected some of ${all}")
    endif()
    while(isa)
      list(APPEND wanted ${isa})
      set(isa ${RNNFAST_BASE_${isa}})
    endwhile()
  endforeach()
  foreach(isa IN LISTS RNNFAST_ALL_SETS)
    if(NOT wanted OR isa IN_LIST wanted)
      list(APPEND sets ${isa})
    endif()
  endforeach()
  set(${chosen} ${sets} PARENT_SCOPE)
endfunction()
rnnfast_choose_sets(RNNFAST_COMPILED_SETS)

# The formats whose kernels are compiled for a set of its own.
function(rnnfast_formats_of isa formats)
  if(DEFINED RNNFAST_BASE_${isa})
    set(${formats} ${RNNFAST_ADDS_${isa}} PARENT_SCOPE)
  else()
    set(${formats} ${RNNFAST_FORMATS} PARENT_SCOPE)
  endif()
endfunction()

# The set whose kernels serve a format: its own, or its base's.
function(rnnfast_provider_of isa format provider)
  rnnfast_formats_of(${isa} own)
  if(NOT format IN_LIST own)
    rnnfast_provider_of(${RNNFAST_BASE_${isa}} ${format} isa)
  endif()
  set(${provider} ${isa} PARENT_SCOPE)
endfunction()

# One object library for every instruction set and format, all linked into `target`.
function(rnnfast_add_kernels target)
  foreach(isa IN LISTS RNNFAST_COMPILED_SETS)
    rnnfast_formats_of(${isa} formats)
    foreach(format IN LISTS formats)
      set(library kernels_${isa}_${format})
      add_library(${library} OBJECT ${PROJECT_SOURCE_DIR}/cpp/kernels/kernels.cpp)
      target_compile_definitions(
        ${library} PRIVATE RNNFAST_ISA=${isa} RNNFAST_FORMAT=${RNNFAST_TYPE_${format}}
                           RNNFAST_TABLE=table_${format})
      target_compile_options(${library} PRIVATE ${RNNFAST_FLAGS_${isa}} -O3 -fno-math-errno)
      rnnfast_check(${library})
      target_link_libraries(${target} PRIVATE ${library})
    endforeach()
    set(entry ${isa})
    foreach(format IN LISTS RNNFAST_FORMATS)
      rnnfast_provider_of(${isa} ${format} provider)
      string(APPEND entry ", ${provider}")
    endforeach()
    string(APPEND entries " X(${entry})")
  endforeach()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/instruction_sets.hpp CONTENT
       "#pragma once\n#define RNNFAST_INSTRUCTION_SETS(X)${entries}\n")
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()
