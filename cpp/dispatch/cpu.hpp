// What the processor can do.
#pragma once

#include <string>

namespace rnnfast {

// Whether the machine runs code of that name from cmake/isa.cmake.
bool cpu_supports(const std::string& instruction_set);
std::string cpu_name();

}  // namespace rnnfast
