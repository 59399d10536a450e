#include "processor.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace vitrify::machine {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
};

// All zeros for a leaf that the processor does not have.
Registers cpuid(unsigned leaf, unsigned part = 0) {
  Registers found;
  if (__get_cpuid_count(leaf, part, &found.eax, &found.ebx, &found.ecx, &found.edx) == 0) {
    return {};
  }
  return found;
}

bool bit(std::uint64_t bits, int place) { return (bits >> place & 1) != 0; }

// The register states that the operating system saves: without, an instruction set cannot be used.
std::uint64_t enabled_states() {
  if (!bit(cpuid(1).ecx, 27)) {
    return 0;
  }
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // the intrinsic needs -mxsave
  return static_cast<std::uint64_t>(high) << 32 | low;
}

std::string brand() {
  std::array<char, 49> text{};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers part = cpuid(0x80000002U + i);
    const std::array<unsigned, 4> words{part.eax, part.ebx, part.ecx, part.edx};
    std::memcpy(&text[16 * static_cast<std::size_t>(i)], words.data(), 16);
  }
  return text.data();
}

Processor read_processor() {
  Processor found{brand(), {}, true};
  const std::uint64_t states = enabled_states();
  const auto all = [&](std::uint64_t mask) { return (states & mask) == mask; };
  const bool avx = all(0x6);
  const bool avx512 = all(0xE6);
  const bool amx = all(0x60000);
  const Registers seven = cpuid(7);
  const Registers more = seven.eax >= 1 ? cpuid(7, 1) : Registers{};
  const auto add = [&](const char* name, bool enabled, unsigned bits, int place) {
    if (enabled && bit(bits, place)) {
      found.instruction_sets.emplace_back(name);
    }
  };
  add("avx2", avx, seven.ebx, 5);
  add("avx512f", avx512, seven.ebx, 16);
  add("avx_vnni", avx, more.eax, 4);
  add("avx512_vnni", avx512, seven.ecx, 11);
  add("avx512_bf16", avx512, more.eax, 5);
  add("avx512_fp16", avx512, seven.edx, 23);
  add("amx_bf16", amx, seven.edx, 22);
  add("amx_int8", amx, seven.edx, 25);
  return found;
}

#else

// What /proc/cpuinfo says of the first processor: its name, or on most arm64 machines the numbers of maker and part.
std::string brand() {
  std::ifstream file("/proc/cpuinfo");
  std::string maker;
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(':');
    const std::string value = colon == std::string::npos ? "" : line.substr(colon + 1);
    if (line.rfind("model name", 0) == 0) {
      return value;
    }
    if (line.rfind("CPU implementer", 0) == 0) {
      maker = value;
    } else if (line.rfind("CPU part", 0) == 0) {
      return "arm64, implementer" + maker + ", part" + value;
    }
  }
  return {};
}

Processor read_processor() {
  Processor found{brand(), {}, false};
#if defined(__aarch64__)
  unsigned long first = 1UL << 1;  // every arm64 processor has it
  unsigned long second = 0;
#if defined(__linux__)
  first = getauxval(AT_HWCAP);
  second = getauxval(AT_HWCAP2);
#endif
  // The kernel's numbers, which older headers lack: asm/hwcap.h.
  const auto add = [&](const char* name, unsigned long bits, int place) {
    if ((bits >> place & 1) != 0) {
      found.instruction_sets.emplace_back(name);
    }
  };
  add("neon", first, 1);
  add("asimddp", first, 20);
  add("i8mm", second, 13);
  add("bf16", second, 14);
#endif
  return found;
}

#endif

std::atomic<const Processor*> pretended{nullptr};

}  // namespace

bool Processor::has(const std::string& instruction_set) const {
  return std::find(instruction_sets.begin(), instruction_sets.end(), instruction_set) != instruction_sets.end();
}

bool Processor::saturates_8bit() const { return x86 && !has("avx_vnni") && !has("avx512_vnni") && !has("amx_int8"); }

const Processor& processor() {
  static const Processor here = [] {
    Processor found = read_processor();
    // Brand strings are padded with blanks, on either side.
    found.name.erase(0, std::min(found.name.find_first_not_of(' '), found.name.size()));
    found.name.erase(found.name.find_last_not_of(' ') + 1);
    return found;
  }();
  const Processor* other = pretended.load();
  return other != nullptr ? *other : here;
}

void pretend(const Processor* other) noexcept { pretended = other; }

}  // namespace vitrify::machine
