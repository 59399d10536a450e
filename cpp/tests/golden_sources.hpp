// The golden and the hostile images, and a file that is not there.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "vitrify/classifier.hpp"

namespace vitrify::test {

inline std::vector<ImageSource> sources_of(const std::filesystem::path& folder) {
  std::vector<std::string> paths;
  for (const char* name : {"images", "hostile"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder / name)) {
      paths.push_back(entry.path().string());
    }
  }
  paths.emplace_back("nowhere.jpg");
  std::sort(paths.begin(), paths.end());
  std::vector<ImageSource> sources;
  for (const std::string& path : paths) {
    sources.push_back(ImageSource::file(path));
  }
  return sources;
}

inline bool same(const Prediction& one, const Prediction& other) {
  return one.logits == other.logits && one.top.size() == other.top.size() && one.top[0].label == other.top[0].label;
}

}  // namespace vitrify::test
