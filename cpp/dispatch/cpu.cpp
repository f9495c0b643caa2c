#include "cpu.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace rnnfast {
namespace {

// One of the processors that this process may use.
int first_processor() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) return cpu;
#endif
  return 0;
}

// How many processors a list such as "0-3,8" of the system's names; none where there is no file.
int count_listed(const std::string& file) {
  std::ifstream list("/sys/devices/system/cpu/cpu" + std::to_string(first_processor()) + "/" +
                     file);
  int count = 0;
  for (std::string part; std::getline(list, part, ',');) {
    const auto dash = part.find('-');
    const int first = std::atoi(part.c_str());
    count += (dash == part.npos ? first : std::atoi(part.c_str() + dash + 1)) - first + 1;
  }
  return count;
}

}  // namespace

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

int third_level_neighbours() {
  static const int told = [] {
    const int sharing = count_listed("cache/index3/shared_cpu_list");
    const int siblings = std::max(1, count_listed("topology/thread_siblings_list"));
    return sharing ? std::max(1, sharing / siblings) : std::numeric_limits<int>::max();
  }();
  return told;
}

}  // namespace rnnfast
