// SHA-256 (FIPS 180-4), so that the C++ runtime needs no cryptography library to hold a plan to its manifest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vitrify::engines {

class Sha256 {
 public:
  void update(const void* data, std::size_t size);
  // 64 hexadecimal digits. Once only.
  [[nodiscard]] std::string finish();

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                      0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<std::uint8_t, 64> pending_{};
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace vitrify::engines
