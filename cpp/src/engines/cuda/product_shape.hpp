// What a matrix product is, without what computes it.
#pragma once

#include <cstdint>
#include <tuple>

namespace vitrify::engines {

enum class Number : std::uint8_t { float32, float16, e4m3 };
enum class Epilogue : std::uint8_t { none, bias, gelu_bias };

// d[i] = epilogue(x[i] weight^T + bias) + c[i], for images i; rows of x, c and d may be apart, and images too.
struct ProductShape {
  int rows = 0;
  int outputs = 0;
  int inputs = 0;
  Number operands = Number::float16;
  Number result = Number::float16;
  Epilogue epilogue = Epilogue::none;
  bool adds = false;  // c
  std::int64_t x_row = 0;
  std::int64_t c_row = 0;
  std::int64_t d_row = 0;
  int images = 1;
  std::int64_t x_image = 0;
  std::int64_t c_image = 0;  // 0: the same for all
  std::int64_t d_image = 0;

  template <typename Shape>
  static auto members(Shape& shape) {
    return std::tie(shape.rows, shape.outputs, shape.inputs, shape.operands, shape.result, shape.epilogue, shape.adds,
                    shape.x_row, shape.c_row, shape.d_row, shape.images, shape.x_image, shape.c_image, shape.d_image);
  }
  [[nodiscard]] auto key() const { return members(*this); }
  bool operator<(const ProductShape& other) const { return key() < other.key(); }
};

}  // namespace vitrify::engines
