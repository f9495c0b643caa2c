#include "cpu.hpp"

#include <unistd.h>

#include <fstream>

namespace rnnfast {

bool cpu_supports(const std::string& name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (name == "avx512bf16")
    return cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  if (name == "avx512vnni") return cpu_supports("avx512") && __builtin_cpu_supports("avx512vnni");
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return name == "baseline" || name == "neon";  // what the architecture itself guarantees
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0 && line.find(':') != std::string::npos)
      return line.substr(line.find(':') + 2);
  return "unknown";
}

long second_level_cache() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const long told = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (told > 0) return told;
#endif
  return 1L << 20;
}

}  // namespace rnnfast
