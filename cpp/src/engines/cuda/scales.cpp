#include "scales.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>

#include <nlohmann/json.hpp>

#include "vitrify/error.hpp"

namespace vitrify::engines {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostBlocks = 1 << 10;
constexpr const char* kHint = "calibrate it: docs/how-to/cuda.md";

std::string path_of(const std::string& model) { return model + ".fp8.json"; }

}  // namespace

std::vector<Magnitudes> read_scales(const std::string& model, std::size_t blocks) {
  const std::string path = path_of(model);
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw ArtifactError("fp8 needs the scales of " + model, "no " + path, {}, kHint);
  }
  std::string text(std::size_t{1} << 20, '\0');  // far more than any has
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  const Json data = Json::parse(text, nullptr, false);
  const auto refuse = [&](const std::string& got) {
    throw ArtifactError(path + " does not fit", got,
                        "four positive magnitudes for each of " + std::to_string(blocks) + " blocks", kHint);
  };
  if (!data.is_object() || !data.contains("magnitudes") || !data["magnitudes"].is_array() || blocks > kMostBlocks ||
      data["magnitudes"].size() != blocks) {
    refuse("no such list");
  }
  std::vector<Magnitudes> magnitudes;
  for (const Json& row : data["magnitudes"]) {
    if (!row.is_array() || row.size() != 4) {
      refuse(row.dump());
    }
    float values[4];
    for (std::size_t i = 0; i < 4; ++i) {
      values[i] = row[i].is_number() ? row[i].get<float>() : -1;
      if (!(values[i] >= 0) || !std::isfinite(values[i])) {
        refuse(row.dump());
      }
    }
    magnitudes.push_back({values[0], values[1], values[2], values[3]});
  }
  return magnitudes;
}

void write_scales(const std::string& model, const std::vector<Magnitudes>& magnitudes) {
  Json rows = Json::array();
  for (const Magnitudes& one : magnitudes) {
    rows.push_back({one.attention_norm, one.attention, one.mlp_norm, one.gelu});
  }
  const std::string path = path_of(model);
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::binary);
  file << Json{{"magnitudes", rows}}.dump(1) << '\n';
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
    std::remove(part.c_str());
    throw ArtifactError("cannot write " + path, {}, {}, "check the folder's permissions");
  }
}

}  // namespace vitrify::engines
