// How many threads are worth starting.
#pragma once

#include <filesystem>
#include <optional>

namespace vitrify::machine {

// What this process may run at once: the cores of its affinity mask, or fewer where a cgroup's quota of processor time
// allows fewer; at least 1. Asked anew each time, since both may change; tens of microseconds.
[[nodiscard]] int available_threads();

// The least quota of the cgroups that this process is in, in cores, rounded up and at least 1; nothing where there is
// none. `root` is where /proc and /sys are, for tests.
[[nodiscard]] std::optional<int> quota_threads(const std::filesystem::path& root = "/");

}  // namespace vitrify::machine
