# Fails unless OBJECT defines TABLE of namespace rnnfast::ISA as its only strong symbol, and weak
# ones inside that namespace alone: the linker keeps one copy of a weak function, and one compiled
# for AVX-512 must never stand in for its baseline twin.
execute_process(COMMAND ${NM} --defined-only --extern-only --format=posix ${OBJECT}
                OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(LENGTH ${ISA} length)
set(space "7rnnfast${length}${ISA}")
string(LENGTH ${TABLE} length)
set(table "_ZN${space}${length}${TABLE}E")
# Functions and data of the namespace, const member functions, statics and lambdas inside them,
# guards and templates' type information.
set(inside "^_Z(GV|T[VIS])?Z*NK?${space}")
# A pointer that exception handling emits; no code.
set(harmless "^DW\\.ref\\.__gxx_personality_v0$")

string(REPLACE "\n" ";" lines "${listing}")
set(found OFF)
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^([^ ]+) ([A-Za-z]) ")
    continue()
  endif()
  set(name ${CMAKE_MATCH_1})
  set(kind ${CMAKE_MATCH_2})
  if(name STREQUAL table)
    set(found ON)
  elseif(NOT kind MATCHES "^[VWu]$")
    list(APPEND wrong "strong: ${name}")
  elseif(NOT name MATCHES "${inside}" AND NOT name MATCHES "${harmless}")
    list(APPEND wrong "weak: ${name}")
  endif()
endforeach()
if(NOT found)
  list(APPEND wrong "missing: ${table}")
endif()
if(wrong)
  list(JOIN wrong "\n  " text)
  message(FATAL_ERROR "${OBJECT} shares symbols with other instruction sets:\n  ${text}")
endif()
