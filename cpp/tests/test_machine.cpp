// Cores and instruction sets, against what Linux says of them.
//   test_machine
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#include <unistd.h>
#endif

#include "check.hpp"
#include "machine/processor.hpp"
#include "machine/threads.hpp"

namespace {

namespace fs = std::filesystem;
using namespace vitrify;

// A folder with its own /proc and /sys, which is removed in the end.
class Root {
 public:
  Root() : folder_(fs::temp_directory_path() / ("vitrify-root-" + std::to_string(std::hash<const void*>()(this)))) {
    fs::remove_all(folder_);
  }
  ~Root() { fs::remove_all(folder_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  Root& with(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text;
    return *this;
  }
  [[nodiscard]] int quota() const { return machine::quota_threads(folder_).value_or(0); }

 private:
  fs::path folder_;
};

void test_quotas() {
  CHECK(Root().quota() == 0, "no cgroups");
  const std::string v2 = "0::/user.slice/job\n";
  CHECK(Root().with("proc/self/cgroup", v2).quota() == 0, "no quota");
  CHECK(Root().with("proc/self/cgroup", v2).with("sys/fs/cgroup/cpu.max", "max 100000\n").quota() == 0, "max");
  for (const auto& [text, cores] : {std::pair{"100000 100000", 1},
                                    {"100001 100000", 2},
                                    {"1000 100000", 1},
                                    {"350000 100000", 4},
                                    {"400000 100000", 4}}) {
    const std::string path = "sys/fs/cgroup/user.slice/job/cpu.max";
    const int found = Root().with("proc/self/cgroup", v2).with(path, text).quota();
    CHECK(found == cores, std::string(text) + ": " + std::to_string(found));
  }
  CHECK(Root().with("proc/self/cgroup", v2)
                .with("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000")
                .with("sys/fs/cgroup/user.slice/cpu.max", "300000 100000")
                .with("sys/fs/cgroup/cpu.max", "800000 100000")
                .quota() == 3,
        "the least along the path");
  CHECK(Root().with("proc/self/cgroup", "0::/on/the/host").with("sys/fs/cgroup/cpu.max", "200000 100000").quota() == 2,
        "a container whose mount is its own group");
  CHECK(Root().with("proc/self/cgroup", "0::/../..").with("sys/cpu.max", "100000 100000").quota() == 0,
        "a path that leaves the mount");
  CHECK(Root().with("proc/self/cgroup", v2).with("sys/fs/cgroup/unified/cpu.max", "200000 100000").quota() == 2,
        "version 2 beside version 1");
  CHECK(Root().with("proc/self/cgroup", v2).with("sys/fs/cgroup/cpu.max", "no numbers").quota() == 0, "damaged");

  const std::string v1 = "5:cpuset:/\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/\n";
  for (const std::string mount : {"sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu"}) {
    CHECK(Root().with("proc/self/cgroup", v1)
                  .with(mount + "/docker/ab/cpu.cfs_quota_us", "150000\n")
                  .with(mount + "/docker/ab/cpu.cfs_period_us", "100000\n")
                  .with(mount + "/cpu.cfs_quota_us", "-1\n")
                  .with(mount + "/cpu.cfs_period_us", "100000\n")
                  .quota() == 2,
          mount);
  }
}

void test_affinity() {
  const int before = machine::available_threads();
  CHECK(before >= 1 && before <= static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
        std::to_string(before) + " threads");
#ifdef __linux__
  cpu_set_t all;
  CHECK(sched_getaffinity(0, sizeof(all), &all) == 0, "the mask");
  int first = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(first), &all)) {
    ++first;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(first), &one);
  CHECK(sched_setaffinity(0, sizeof(one), &one) == 0, "one core");
  CHECK(machine::available_threads() == 1, "one core is allowed");
  CHECK(sched_setaffinity(0, sizeof(all), &all) == 0, "all cores");
  CHECK(machine::available_threads() == before, "as before");
#endif
}

// The words of the line of /proc/cpuinfo that begins so; none where there is no such line.
std::vector<std::string> words_of(const std::string& beginning) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(beginning, 0) == 0) {
      std::istringstream text(line.substr(line.find(':') + 1));
      std::vector<std::string> words;
      for (std::string word; text >> word;) {
        words.push_back(word);
      }
      return words;
    }
  }
  return {};
}

// The kernel's own reading of the processor. Under an emulator, /proc/cpuinfo is the host's: --emulated leaves it out.
void test_processor() {
  const machine::Processor& here = machine::processor();
  std::string name;
  for (const std::string& word : words_of("model name")) {
    name += (name.empty() ? "" : " ") + word;
  }
  if (!name.empty()) {
    std::string mine;
    std::istringstream text(here.name);
    for (std::string word; text >> word;) {
      mine += (mine.empty() ? "" : " ") + word;
    }
    CHECK(mine == name, mine + " for " + name);
  }
  for (const std::string line : {"flags", "Features"}) {
    const std::vector<std::string> flags = words_of(line);
    const auto has = [&](const char* flag) { return std::find(flags.begin(), flags.end(), flag) != flags.end(); };
    if (flags.empty() || here.x86 != (line == "flags")) {
      continue;
    }
    std::vector<std::string> expected;
    for (const char* set : {"avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
                            "amx_int8", "asimd", "asimddp", "i8mm", "bf16"}) {
      if (has(set)) {
        expected.emplace_back(set == std::string("asimd") ? "neon" : set);
      }
    }
    CHECK(here.instruction_sets == expected, "the instruction sets are not those of /proc/cpuinfo");
  }
}

void test_saturation() {
  using machine::Processor;
  CHECK((Processor{"", {}, true}).saturates_8bit(), "SSE");
  CHECK((Processor{"", {"avx2", "avx512f", "avx512_bf16"}, true}).saturates_8bit(), "AVX-512 without VNNI");
  for (const char* set : {"avx_vnni", "avx512_vnni", "amx_int8"}) {
    CHECK(!(Processor{"", {"avx2", set}, true}).saturates_8bit(), set);
  }
  CHECK(!(Processor{"", {"neon"}, false}).saturates_8bit(), "arm64");
}

}  // namespace

int main(int count, char** arguments) {
  test_quotas();
  test_affinity();
  if (count < 2 || arguments[1] != std::string("--emulated")) {
    test_processor();
  }
  test_saturation();
  std::printf("%s:", machine::processor().name.c_str());
  for (const std::string& set : machine::processor().instruction_sets) {
    std::printf(" %s", set.c_str());
  }
  std::printf("; %d threads\n", machine::available_threads());
  return vitrify::test::check_result();
}
