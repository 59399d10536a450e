// Matrix products by cuBLASLt, which is opened when a network is: the toolkit's, or the nvidia-cublas wheel's.
//
// Its heuristics' first choice is up to a third slower than its best, so that all of them are timed once for a shape.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "../cuda_memory.hpp"
#include "product_shape.hpp"
#include "tunings.hpp"

namespace vitrify::engines {

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
  // What is used for a shape, to be kept; and from there, for a shape that no product had yet: cuBLASLt checks it
  // before its first use, and where it has anything against it, the shape is timed as a new one is.
  [[nodiscard]] Algorithm algorithm(const ProductShape& shape) const;
  void restore(const ProductShape& shape, const Algorithm& algorithm);
  // Makes shapes new again.
  void forget(const std::vector<ProductShape>& shapes);
  // How many shapes were timed so far.
  [[nodiscard]] std::size_t timings() const { return timings_; }
  // The shapes since they were forgotten.
  [[nodiscard]] std::vector<ProductShape> started() const { return {started_.begin(), started_.end()}; }
  void forget_started() { started_.clear(); }

  // Such as "13.1.1".
  [[nodiscard]] std::string version() const;
  // What algorithms are for: library, GPU and driver, a line each.
  [[nodiscard]] std::string machine() const;
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
    bool restored = false;  // and not started yet
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
  std::size_t timings_ = 0;
};

}  // namespace vitrify::engines
