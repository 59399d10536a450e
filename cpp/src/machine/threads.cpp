#include "threads.hpp"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace vitrify::machine {
namespace {

namespace fs = std::filesystem;

// The cores that the affinity mask allows.
int allowed_cores() {
#ifdef __linux__
  // The call fails while the mask is smaller than the kernel's own.
  for (int most = CPU_SETSIZE; most <= 1 << 20; most *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<std::size_t>(most));
    if (mask == nullptr) {
      break;
    }
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const int cores = sched_getaffinity(0, bytes, mask) == 0 ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (cores > 0) {
      return cores;
    }
  }
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

using Quota = std::optional<int>;

Quota cores(std::int64_t quota, std::int64_t period) {
  if (quota <= 0 || period <= 0) {  // version 1 writes -1 for none
    return {};
  }
  return static_cast<int>(std::min<std::int64_t>((quota - 1) / period + 1, 1 << 20));
}

Quota version2(const fs::path& group) {
  std::string quota;
  std::int64_t period = 0;
  if (!(std::ifstream(group / "cpu.max") >> quota >> period) || quota == "max") {
    return {};
  }
  std::int64_t value = 0;
  return std::istringstream(quota) >> value ? cores(value, period) : Quota{};
}

Quota version1(const fs::path& group) {
  std::int64_t quota = 0;
  std::int64_t period = 0;
  const bool known =
      (std::ifstream(group / "cpu.cfs_quota_us") >> quota) && (std::ifstream(group / "cpu.cfs_period_us") >> period);
  return known ? cores(quota, period) : Quota{};
}

Quota least(Quota one, Quota other) { return one && other ? std::min(one, other) : one ? one : other; }

// From the process's own group up to the mount: each may have a quota, and the least holds. In a container the path may
// be the host's, of which only the mount itself is there.
Quota along(const fs::path& mount, const fs::path& path, Quota read(const fs::path& group)) {
  fs::path group = mount;
  Quota found = read(group);
  for (const fs::path& part : path.relative_path()) {
    group /= part;
    found = part == ".." ? found : least(found, read(group));
  }
  return found;
}

}  // namespace

std::optional<int> quota_threads(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  Quota found;
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path, without controllers in version 2
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path path = line.substr(second + 1);
    if (controllers.empty()) {
      found = least(found, along(mounts, path, version2));
      found = least(found, along(mounts / "unified", path, version2));
    } else if ((',' + controllers + ',').find(",cpu,") != std::string::npos) {
      found = least(found, along(mounts / "cpu", path, version1));
      found = least(found, along(mounts / controllers, path, version1));
    }
  }
  return found;
}

int available_threads() { return std::max(1, std::min(allowed_cores(), quota_threads().value_or(1 << 20))); }

}  // namespace vitrify::machine
