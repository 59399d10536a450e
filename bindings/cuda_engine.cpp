// The C++ cuda engine for Python: vitrify._cuda, which is built where it is asked for.
#include <cuda_runtime.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "vitrify/engine.hpp"
#include "vitrify/error.hpp"
#include "vitrify/spec.hpp"

namespace vitrify::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

using Tensors = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

// CUDA's current device is a thread's own, and Python calls from any.
void use(int device) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    throw DeviceError("there is no NVIDIA GPU to run on", cudaGetErrorString(status), {},
                      "nvidia-smi lists what the driver sees; another runtime needs no GPU");
  }
  if (device < 0 || device >= count) {
    throw OptionError("there is no such GPU", "cuda:" + std::to_string(device),
                      "cuda:0" + (count > 1 ? " to cuda:" + std::to_string(count - 1) : std::string()));
  }
  status = cudaSetDevice(device);
  if (status != cudaSuccess) {
    throw DeviceError("the GPU cannot be used", cudaGetErrorString(status));
  }
}

class CudaEngine {
 public:
  CudaEngine(const std::string& path, bool fp8, int device, int streams) : device_(device) {
    nb::gil_scoped_release unlocked;
    use(device);
    const ModelSpec spec = read_spec(path);
    item_ = {3, static_cast<std::size_t>(spec.preprocess.crop.height),
             static_cast<std::size_t>(spec.preprocess.crop.width)};
    classes_ = spec.labels.size();
    EngineOptions options;
    options.precision = fp8 ? Precision::fp8 : Precision::fp16;
    options.streams = streams;
    engine_ = open_engine(path, spec, options, "cuda");
  }

  nb::ndarray<nb::numpy, float, nb::ndim<2>> infer(const Tensors& tensors) const {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (tensors.shape(axis + 1) != item_[axis]) {
        throw nb::value_error("the tensors are not of the network's size");
      }
    }
    const std::size_t count = tensors.shape(0);
    auto logits = std::make_unique<float[]>(count * classes_);
    if (count > 0) {
      nb::gil_scoped_release unlocked;
      use(device_);
      engine_->infer(tensors.data(), count, logits.get());
    }
    float* data = logits.get();
    const nb::capsule owner(data, [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
    static_cast<void>(logits.release());
    return nb::ndarray<nb::numpy, float, nb::ndim<2>>(data, {count, classes_}, owner);
  }

  // Such as "cublasLt 13.1.1".
  [[nodiscard]] std::string version() const { return engine_->version(); }
  // Such as "NVIDIA H100 80GB HBM3, driver 13000".
  [[nodiscard]] std::string device() const { return engine_->device(); }

 private:
  int device_;
  std::array<std::size_t, 3> item_{};
  std::size_t classes_ = 0;
  std::unique_ptr<Engine> engine_;
};

// The class of vitrify.errors of that name, with the message's parts.
void raise(const char* name, const Error& error) {
  const auto part = [](const std::string& text) {
    return text.empty() ? nb::none() : nb::object(nb::str(text.c_str()));
  };
  try {
    const nb::object made = nb::module_::import_("vitrify.errors")
                                .attr(name)(error.problem(), "got"_a = part(error.got()),
                                            "expected"_a = part(error.expected()), "hint"_a = part(error.hint()));
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  } catch (nb::python_error& failed) {
    failed.restore();
  }
}

void translate(const std::exception_ptr& thrown, void* /*payload*/) {
  try {
    std::rethrow_exception(thrown);
  } catch (const DeviceError& error) {
    raise("DeviceError", error);
  } catch (const RuntimeFailureError& error) {
    raise("RuntimeFailureError", error);
  } catch (const OptionError& error) {
    raise("OptionError", error);
  } catch (const ArtifactError& error) {
    raise("ArtifactError", error);
  } catch (const SpecError& error) {
    raise("SpecError", error);
  } catch (const Error& error) {
    raise("VitrifyError", error);
  }
}

}  // namespace
}  // namespace vitrify::python

NB_MODULE(_cuda, module) {
  using vitrify::python::CudaEngine;
  using namespace nanobind::literals;
  nanobind::register_exception_translator(&vitrify::python::translate);
  nanobind::class_<CudaEngine>(module, "CudaEngine")
      .def(nanobind::init<const std::string&, bool, int, int>(), "path"_a, "fp8"_a, "device"_a, "streams"_a)
      .def("infer", &CudaEngine::infer, "tensors"_a)
      .def_prop_ro("version", &CudaEngine::version)
      .def_prop_ro("device", &CudaEngine::device);
}
