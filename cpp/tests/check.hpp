// The least that a test needs: CHECK says what did not hold and goes on; main returns check_result().
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace vitrify::test {

inline std::atomic<int> failures{0};

inline void check(bool holds, const std::string& what, const char* file, int line) {
  if (!holds) {
    ++failures;
    std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  }
}

inline int check_result() {
  std::printf("%d failures\n", failures.load());
  return failures == 0 ? 0 : 1;
}

inline std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), "cannot open " + path.string(), __FILE__, __LINE__);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace vitrify::test

#define CHECK(condition, what) ::vitrify::test::check((condition), (what), __FILE__, __LINE__)
