// What the processor can do.
#pragma once

#include <string>

namespace rnnfast {

// Whether the machine runs code of that name from cmake/isa.cmake.
bool cpu_supports(const std::string& instruction_set);
std::string cpu_name();
// Bytes of a core's second-level cache; a usual size where the system does not tell.
long second_level_cache();
// Cores that share a third-level cache, all of them where the system does not tell.
int third_level_neighbours();

}  // namespace rnnfast
