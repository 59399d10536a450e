// tests/golden, as make_golden.py describes it.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "check.hpp"
#include "vitrify/image.hpp"

namespace vitrify::test {

struct Case {
  std::string name;
  Size size;
  std::uint64_t hash = 0;
};

struct Spec {
  std::string name;
  Preprocess preprocess;
};

inline std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  CHECK(file.good(), "cannot open " + path.string());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') {
      lines.push_back(line);
    }
  }
  return lines;
}

inline std::vector<Case> read_cases(const std::filesystem::path& folder) {
  std::vector<Case> cases;
  for (const std::string& line : lines_of(folder / "cases.txt")) {
    Case one;
    std::istringstream(line) >> one.name >> one.size.width >> one.size.height >> std::hex >> one.hash;
    cases.push_back(one);
  }
  return cases;
}

template <typename Value, std::size_t count>
Value index_of(const std::string& name, const char* const (&names)[count]) {
  for (std::size_t i = 0; i < count; ++i) {
    if (name == names[i]) {
      return static_cast<Value>(i);
    }
  }
  CHECK(false, "an unknown name: " + name);
  return Value{};
}

inline std::vector<Spec> read_specs(const std::filesystem::path& folder) {
  constexpr const char* rules[] = {"shortest", "squash", "longest"};
  constexpr const char* filters[] = {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"};
  std::vector<Spec> specs;
  for (const std::string& line : lines_of(folder / "specs.txt")) {
    Spec spec;
    Preprocess& fields = spec.preprocess;
    std::string rule;
    std::string filter;
    std::istringstream text(line);
    text >> spec.name >> rule >> fields.resize_box.width >> fields.resize_box.height >> fields.crop.width >>
        fields.crop.height >> filter;
    fields.resize_rule = index_of<ResizeRule>(rule, rules);
    fields.interpolation = index_of<Interpolation>(filter, filters);
    for (auto* triple : {&fields.mean, &fields.std}) {
      for (float& value : *triple) {
        double exact = 0;
        text >> exact;
        value = static_cast<float>(exact);
      }
    }
    for (std::uint8_t& value : fields.fill) {
      int whole = 0;
      text >> whole;
      value = static_cast<std::uint8_t>(whole);
    }
    CHECK(!text.fail(), "cannot parse " + line);
    specs.push_back(spec);
  }
  return specs;
}

inline std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

inline std::uint64_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t value = 0xCBF29CE484222325;
  for (const std::uint8_t byte : bytes) {
    value = (value ^ byte) * 0x100000001B3;
  }
  return value;
}

}  // namespace vitrify::test
