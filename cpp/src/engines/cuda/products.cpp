#include "products.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace vitrify::engines {
namespace {

constexpr std::size_t kWorkspace = std::size_t{64} << 20;
constexpr int kCandidates = 32;
constexpr float kNearlyAsFast = 1.25F;

cudaDataType type_of(Number number) {
  switch (number) {
    case Number::float32:
      return CUDA_R_32F;
    case Number::float16:
      return CUDA_R_16F;
    default:
      return CUDA_R_8F_E4M3;
  }
}

std::size_t bytes_of(Number number) { return number == Number::float32 ? 4 : number == Number::float16 ? 2 : 1; }

void require(cublasStatus_t status, const ProductShape& shape) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw RuntimeFailureError("cuBLASLt refuses a product of " + std::to_string(shape.rows) + " x " +
                                  std::to_string(shape.inputs) + " by " + std::to_string(shape.outputs),
                              "status " + std::to_string(static_cast<int>(status)));
  }
}

}  // namespace

struct Products::Library {
  Library() {
    const char* given = std::getenv("VITRIFY_CUBLASLT");
    for (const char* name : {given != nullptr ? given : "libcublasLt.so.13", "libcublasLt.so.12"}) {
      handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (handle != nullptr) {
        break;
      }
    }
    if (handle == nullptr) {
      const char* reason = dlerror();
      throw DeviceError("cuBLASLt cannot be opened", reason != nullptr ? reason : "", "libcublasLt.so.13 or .12",
                        "install the CUDA toolkit's libcublas or pip's nvidia-cublas, and name its folder in "
                        "LD_LIBRARY_PATH or the file in VITRIFY_CUBLASLT");
    }
    find(create, "cublasLtCreate");
    find(destroy, "cublasLtDestroy");
    find(version, "cublasLtGetVersion");
    find(matmul, "cublasLtMatmul");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(check_algorithm, "cublasLtMatmulAlgoCheck");
    find(desc_create, "cublasLtMatmulDescCreate");
    find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(layout_create, "cublasLtMatrixLayoutCreate");
    find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(layout_set, "cublasLtMatrixLayoutSetAttribute");
    find(preference_create, "cublasLtMatmulPreferenceCreate");
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
  }
  ~Library() { dlclose(handle); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  template <typename Function>
  void find(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(dlsym(handle, name));
    if (function == nullptr) {
      throw DeviceError("this cuBLASLt cannot be used", std::string("no ") + name + " in it", "cuBLASLt 12 or 13");
    }
  }

  void* handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) check_algorithm = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
};

// A product as cuBLASLt wants it described. Its matrices are column-major: what is a row here is a column there.
class Products::Call {
 public:
  Call(const Library& library, cublasLtHandle_t handle, void* workspace, const ProductShape& shape,
       const ProductOperands& operands)
      : library_(&library), handle_(handle), workspace_(workspace), shape_(&shape) {
    require(library.desc_create(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), shape);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    const cublasLtEpilogue_t epilogue = shape.epilogue == Epilogue::none   ? CUBLASLT_EPILOGUE_DEFAULT
                                        : shape.epilogue == Epilogue::bias ? CUBLASLT_EPILOGUE_BIAS
                                                                           : CUBLASLT_EPILOGUE_GELU_BIAS;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    const cudaDataType added = shape.result == Number::float32 ? CUDA_R_32F : CUDA_R_16F;
    if (shape.epilogue != Epilogue::none) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, added);
    }
    if (shape.operands == Number::e4m3) {
      // Sums of e4m3 products are kept to 14 bits within the tensor cores; the exact way is a third slower.
      const std::int8_t fast = 1;
      set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast);
      set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.weight_scale);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.x_scale);
      if (shape.result == Number::e4m3) {
        set(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, operands.d_scale);
      }
    }
    const auto k = static_cast<std::uint64_t>(shape.inputs);
    const auto n = static_cast<std::uint64_t>(shape.outputs);
    const auto m = static_cast<std::uint64_t>(shape.rows);
    layout(0, type_of(shape.operands), k, n, shape.inputs, 0);
    layout(1, type_of(shape.operands), k, m, shape.x_row, shape.x_image);
    layout(2, added, n, m, shape.adds ? shape.c_row : shape.d_row, shape.c_image);
    layout(3, type_of(shape.result), n, m, shape.d_row, shape.d_image);
  }
  ~Call() {
    for (cublasLtMatrixLayout_t one : layouts_) {
      if (one != nullptr) {
        library_->layout_destroy(one);
      }
    }
    library_->desc_destroy(operation_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  int candidates(std::array<cublasLtMatmulHeuristicResult_t, kCandidates>& found) const {
    cublasLtMatmulPreference_t preference = nullptr;
    require(library_->preference_create(&preference), *shape_);
    const std::size_t workspace = kWorkspace;
    library_->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
    int count = 0;
    const cublasStatus_t status = library_->heuristic(handle_, operation_, layouts_[0], layouts_[1], layouts_[2],
                                                      layouts_[3], preference, kCandidates, found.data(), &count);
    library_->preference_destroy(preference);
    require(count > 0 ? status : CUBLAS_STATUS_NOT_SUPPORTED, *shape_);
    return count;
  }

  // Whether cuBLASLt runs this product by such an algorithm, within our workspace.
  [[nodiscard]] bool fits(const cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulHeuristicResult_t result{};
    return library_->check_algorithm(handle_, operation_, layouts_[0], layouts_[1], layouts_[2], layouts_[3],
                                     &algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= kWorkspace;
  }

  cublasStatus_t start(const ProductOperands& operands, void* d, const cublasLtMatmulAlgo_t& algorithm,
                       cudaStream_t stream) const {
    const float one = 1;
    const float beta = shape_->adds ? 1 : 0;
    // Where nothing is added, c is never read; it must not be d where their types differ.
    const void* c = shape_->adds ? operands.c : shape_->result == Number::e4m3 ? operands.x : d;
    return library_->matmul(handle_, operation_, &one, operands.weight, layouts_[0], operands.x, layouts_[1], &beta, c,
                            layouts_[2], d, layouts_[3], &algorithm, workspace_, kWorkspace, stream);
  }

 private:
  template <typename Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    require(library_->desc_set(operation_, attribute, &value, sizeof(value)), *shape_);
  }

  void layout(std::size_t index, cudaDataType type, std::uint64_t rows, std::uint64_t columns, std::int64_t stride,
              std::int64_t image) {
    require(library_->layout_create(&layouts_[index], type, rows, columns, stride), *shape_);
    if (shape_->images > 1) {
      const std::int32_t count = shape_->images;
      require(library_->layout_set(layouts_[index], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)),
              *shape_);
      require(library_->layout_set(layouts_[index], CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &image, sizeof(image)),
              *shape_);
    }
  }

  const Library* library_;
  cublasLtHandle_t handle_;
  void* workspace_;
  const ProductShape* shape_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  std::array<cublasLtMatrixLayout_t, 4> layouts_{};
};

Products::Products() : library_(std::make_unique<Library>()), workspace_(device_memory(kWorkspace)) {
  const cublasStatus_t status = library_->create(&handle_);
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw DeviceError("cuBLASLt does not start", "status " + std::to_string(static_cast<int>(status)));
  }
}

Products::~Products() { library_->destroy(handle_); }

std::string Products::version() const {
  const std::size_t number = library_->version();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

std::string Products::machine() const {
  int device = 0;
  int driver = 0;
  cudaDeviceProp gpu{};
  check(cudaGetDevice(&device), "there is no GPU");
  check(cudaGetDeviceProperties(&gpu, device), "the GPU does not say what it is");
  check(cudaDriverGetVersion(&driver), "there is no driver");
  return "cublaslt=" + std::to_string(library_->version()) + "\ngpu=" + gpu.name +
         "\ncompute_capability=" + std::to_string(gpu.major) + '.' + std::to_string(gpu.minor) +
         "\nmultiprocessors=" + std::to_string(gpu.multiProcessorCount) + "\ndriver=" + std::to_string(driver) +
         "\nworkspace=" + std::to_string(kWorkspace) + '\n';
}

Algorithm Products::algorithm(const ProductShape& shape) const {
  const Chosen& chosen = chosen_.at(shape);
  Algorithm bytes;
  static_assert(sizeof(bytes) == sizeof(cublasLtMatmulAlgo_t));
  std::memcpy(bytes.data(), &chosen.found[chosen.used].algorithm, sizeof(bytes));
  return bytes;
}

void Products::restore(const ProductShape& shape, const Algorithm& algorithm) {
  Timed one{};
  std::memcpy(&one.algorithm, algorithm.data(), sizeof(one.algorithm));
  chosen_.emplace(shape, Chosen{{one}, 0, true});
}

void Products::forget(const std::vector<ProductShape>& shapes) {
  for (const ProductShape& shape : shapes) {
    chosen_.erase(shape);
  }
}

float Products::microseconds(const ProductShape& shape) const {
  const auto found = chosen_.find(shape);
  return found == chosen_.end() ? 0 : found->second.found[found->second.used].microseconds;
}

void Products::run(const ProductShape& shape, const ProductOperands& operands, cudaStream_t stream) {
  Call call(*library_, handle_, workspace_.get(), shape, operands);
  auto found = chosen_.find(shape);
  if (found != chosen_.end() && found->second.restored) {
    found->second.restored = false;
    const cublasLtMatmulAlgo_t& algorithm = found->second.found.front().algorithm;
    if (call.fits(algorithm) && call.start(operands, operands.d, algorithm, stream) == CUBLAS_STATUS_SUCCESS) {
      started_.insert(shape);
      return;
    }
    chosen_.erase(found);
    found = chosen_.end();
  }
  if (found == chosen_.end()) {
    check(cudaStreamSynchronize(stream), "the GPU failed before a product");
    ++timings_;
    found = chosen_.emplace(shape, timed(call, shape, operands)).first;
  }
  started_.insert(shape);
  require(call.start(operands, operands.d, found->second.found[found->second.used].algorithm, stream), shape);
}

Products::Chosen Products::timed(Call& call, const ProductShape& shape, const ProductOperands& operands) {
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found{};
  const int count = call.candidates(found);
  const auto rows = static_cast<std::size_t>(shape.rows) + 1;
  const std::size_t bytes =
      bytes_of(shape.result) *
      (static_cast<std::size_t>(shape.images) * static_cast<std::size_t>(std::max<std::int64_t>(shape.d_image, 0)) +
       rows * static_cast<std::size_t>(shape.d_row));
  if (bytes > spare_bytes_) {
    spare_.reset();
    spare_ = device_memory(bytes);
    spare_bytes_ = bytes;
  }
  const Stream stream = create_stream();
  const Event begin = create_event(cudaEventDefault);
  const Event end = create_event(cudaEventDefault);
  Chosen chosen;
  for (int i = 0; i < count; ++i) {
    // Within a recorded graph, where the host's cost of a launch does not count: as they will run.
    constexpr int repeats = 10;
    ExecutableGraph graph;
    try {
      if (call.start(operands, spare_.get(), found[static_cast<std::size_t>(i)].algo, stream.get()) !=
          CUBLAS_STATUS_SUCCESS) {
        continue;
      }
      check(cudaStreamSynchronize(stream.get()), "the GPU failed in a product");
      graph = recorded(stream.get(), [&] {
        for (int k = 0; k < repeats; ++k) {
          require(call.start(operands, spare_.get(), found[static_cast<std::size_t>(i)].algo, stream.get()), shape);
        }
      });
    } catch (const DeviceError&) {
      throw;
    } catch (const RuntimeFailureError&) {
      continue;  // an algorithm that cannot be recorded is of no use
    }
    float fastest = 0;
    for (int round = 0; round < 4; ++round) {
      check(cudaEventRecord(begin.get(), stream.get()), "CUDA records no event");
      check(cudaGraphLaunch(graph.get(), stream.get()), "CUDA does not launch a graph");
      check(cudaEventRecord(end.get(), stream.get()), "CUDA records no event");
      check(cudaEventSynchronize(end.get()), "the GPU failed in a product");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "CUDA measures no time");
      if (round > 0 && (fastest == 0 || milliseconds < fastest)) {
        fastest = milliseconds;
      }
    }
    chosen.found.push_back({found[static_cast<std::size_t>(i)].algo, fastest * 1e3F / repeats});
  }
  if (chosen.found.empty()) {
    require(CUBLAS_STATUS_NOT_SUPPORTED, shape);
  }
  std::sort(chosen.found.begin(), chosen.found.end(),
            [](const Timed& one, const Timed& two) { return one.microseconds < two.microseconds; });
  const auto slow = std::find_if(chosen.found.begin(), chosen.found.end(), [&](const Timed& one) {
    return one.microseconds > kNearlyAsFast * chosen.found.front().microseconds;
  });
  chosen.found.erase(slow, chosen.found.end());
  return chosen;
}

}  // namespace vitrify::engines
