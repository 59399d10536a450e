// Matrix products by cuBLASLt, which is opened when a network is: the toolkit's, or the nvidia-cublas wheel's.
//
// Its heuristics' first choice is up to a third slower than its best, so that all of them are timed once for a shape.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "../cuda_memory.hpp"

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

  [[nodiscard]] auto key() const {
    return std::tie(rows, outputs, inputs, operands, result, epilogue, adds, x_row, c_row, d_row, images, x_image,
                    c_image, d_image);
  }
  bool operator<(const ProductShape& other) const { return key() < other.key(); }
};

// On the GPU. The scales of e4m3 operands are what they are multiplied with to be what they mean; the result's is what
// it is multiplied with before it is rounded.
struct ProductOperands {
  const void* weight = nullptr;
  const void* x = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  const void* bias = nullptr;  // of the result's type; float16 for e4m3
  const float* weight_scale = nullptr;
  const float* x_scale = nullptr;
  const float* d_scale = nullptr;
};

class Products {
 public:
  // Throws DeviceError where the library cannot be opened or used.
  Products();
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  // Starts a product. One whose shape is new is timed first, unless the stream is being recorded, which must not see a
  // new shape.
  void run(const ProductShape& shape, const ProductOperands& operands, cudaStream_t stream);

  // Algorithms of a shape that were nearly as fast as the best alone, and which of them is used.
  [[nodiscard]] std::size_t choices(const ProductShape& shape) const { return chosen_.at(shape).found.size(); }
  [[nodiscard]] std::size_t choice(const ProductShape& shape) const { return chosen_.at(shape).used; }
  void choose(const ProductShape& shape, std::size_t choice) { chosen_.at(shape).used = choice; }
  // The shapes since they were forgotten.
  [[nodiscard]] std::vector<ProductShape> started() const { return {started_.begin(), started_.end()}; }
  void forget_started() { started_.clear(); }

  // Such as "13.1.1".
  [[nodiscard]] std::string version() const;
  // Microseconds of the best algorithm, alone and repeated; 0 for a shape that was not timed.
  [[nodiscard]] float microseconds(const ProductShape& shape) const;

 private:
  struct Library;
  struct Timed {
    cublasLtMatmulAlgo_t algorithm;
    float microseconds;
  };
  struct Chosen {
    std::vector<Timed> found;  // the fastest first
    std::size_t used = 0;
  };

  class Call;
  Chosen timed(Call& call, const ProductShape& shape, const ProductOperands& operands);

  std::unique_ptr<Library> library_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory workspace_;
  DeviceMemory spare_;  // takes what timing writes
  std::size_t spare_bytes_ = 0;
  std::map<ProductShape, Chosen> chosen_;
  std::set<ProductShape> started_;
};

}  // namespace vitrify::engines
