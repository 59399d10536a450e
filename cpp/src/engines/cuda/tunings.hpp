// Which algorithms made a network fastest, kept on disk: finding them takes seconds, reading them none.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "product_shape.hpp"

namespace vitrify::engines {

// cuBLASLt's own bytes: they mean the same to every process with the same library and GPU.
using Algorithm = std::array<std::uint8_t, 64>;

struct Tuning {
  int piece = 0;  // images that are worked through at once
  std::vector<std::pair<ProductShape, Algorithm>> products;
};

// A JSON file a key in `folder`, called by the key's digest. A file that is damaged, of another key or cannot be read
// counts as none; one that cannot be written is left out.
class Tunings {
 public:
  Tunings() = default;  // keeps nothing
  explicit Tunings(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // `key` says everything that the choice depends on.
  [[nodiscard]] std::optional<Tuning> read(const std::string& key) const noexcept;
  void keep(const std::string& key, const Tuning& tuning) const noexcept;

  [[nodiscard]] std::filesystem::path file(const std::string& key) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace vitrify::engines
