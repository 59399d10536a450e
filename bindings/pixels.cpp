// The pixel core for Python. Shapes and types are checked in vitrify/pixels; here only memory is handed over.
#include "native.hpp"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "limits.hpp"
#include "machine/processor.hpp"
#include "machine/threads.hpp"
#include "reader.hpp"
#include "spec/onnx_form.hpp"
#include "vitrify/image.hpp"

namespace nb = nanobind;
using namespace nb::literals;

using namespace vitrify::python;

namespace {

nb::ndarray<nb::numpy, std::uint8_t, nb::shape<-1, -1, 3>> to_array(vitrify::Image image) {
  auto* owned = new std::vector<std::uint8_t>(std::move(image.rgb));
  nb::capsule owner(owned, [](void* memory) noexcept { delete static_cast<std::vector<std::uint8_t>*>(memory); });
  return {owned->data(),
          {static_cast<std::size_t>(image.size.height), static_cast<std::size_t>(image.size.width), 3},
          owner};
}

}  // namespace

namespace vitrify::python {

Source source_of(nb::handle object) {
  Source source;
  if (nb::isinstance<nb::bytes>(object)) {
    const auto bytes = nb::borrow<nb::bytes>(object);
    source.data = static_cast<const std::uint8_t*>(bytes.data());
    source.bytes = bytes.size();
    source.encoded = true;
  } else {
    const auto pixels = nb::cast<Pixels>(object);
    source.data = pixels.data();
    source.size = size_of(pixels);
  }
  return source;
}

Failure failure_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const vitrify::ImageError& refused) {
    return {refused.problem(), refused.got(), refused.expected(), refused.hint()};
  } catch (const std::bad_alloc&) {
    return {"not enough memory for the image", "", "", "lower the limits, or prepare fewer images at once"};
  } catch (const std::exception& other) {
    return {"the image cannot be prepared", other.what(), "", ""};
  }
}

}  // namespace vitrify::python

namespace {

// Prepares the images on the threads, several of them for an image where there are fewer images. Without the GIL.
// Gives one failure an image, none where it went well.
std::vector<std::optional<Failure>> preprocess(nb::list images, const vitrify::Preprocess& spec,
                                               const vitrify::DecodeOptions& options,
                                               nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu> out,
                                               Threads& threads) {
  std::vector<Source> sources;
  sources.reserve(images.size());
  for (nb::handle image : images) {
    sources.push_back(source_of(image));
  }
  std::vector<std::optional<Failure>> failures(sources.size());
  float* memory = out.data();
  const std::size_t stride = 3 * static_cast<std::size_t>(spec.crop.width) * static_cast<std::size_t>(spec.crop.height);
  if (out.size() != stride * sources.size()) {
    throw nb::value_error("the output has another size than the batch");
  }
  nb::gil_scoped_release unlocked;
  threads.workers->each(sources.size(), [&](std::size_t i) {
    const Source& source = sources[i];
    try {
      if (source.encoded) {
        const auto reader = vitrify::pixels::open(source.data, source.bytes, options.limits);
        vitrify::pixels::preprocess(*reader, spec, options.fast, *threads.workers,
                                    vitrify::pixels::part_of(threads.count, sources.size(), i), memory + i * stride);
      } else {
        vitrify::preprocess_rgb(source.data, source.size, spec, memory + i * stride);
      }
    } catch (...) {
      failures[i] = failure_of(std::current_exception());
    }
  });
  return failures;
}

}  // namespace

NB_MODULE(_native, module) {
  module.def(
      "onnx_fault",
      [](const nb::bytes& content) -> std::optional<std::pair<std::string, std::string>> {
        const nb::gil_scoped_release others;
        const auto fault = vitrify::spec::onnx_fault(static_cast<const std::uint8_t*>(content.data()), content.size());
        return fault ? std::optional(std::make_pair(fault->got, fault->expected)) : std::nullopt;
      },
      "content"_a);

  // Its arguments are the four parts of a failure.
  const nb::object image_error =
      nb::steal(PyErr_NewException("vitrify._native.NativeImageError", PyExc_ValueError, nullptr));
  module.attr("NativeImageError") = image_error;
  nb::register_exception_translator(
      [](const std::exception_ptr& error, void* type) {
        try {
          std::rethrow_exception(error);
        } catch (const vitrify::ImageError&) {
          const Failure parts = failure_of(error);
          const nb::tuple arguments = nb::make_tuple(parts[0], parts[1], parts[2], parts[3]);
          PyErr_SetObject(static_cast<PyObject*>(type), arguments.ptr());
        }
      },
      image_error.ptr());

  nb::enum_<vitrify::Interpolation>(module, "Interpolation")
      .value("nearest", vitrify::Interpolation::nearest)
      .value("box", vitrify::Interpolation::box)
      .value("bilinear", vitrify::Interpolation::bilinear)
      .value("hamming", vitrify::Interpolation::hamming)
      .value("bicubic", vitrify::Interpolation::bicubic)
      .value("lanczos", vitrify::Interpolation::lanczos);

  nb::enum_<vitrify::ResizeRule>(module, "ResizeRule")
      .value("shortest", vitrify::ResizeRule::shortest)
      .value("squash", vitrify::ResizeRule::squash)
      .value("longest", vitrify::ResizeRule::longest);

  nb::class_<vitrify::Preprocess>(module, "Preprocess")
      .def(
          "__init__",
          [](vitrify::Preprocess* self, vitrify::ResizeRule rule, std::pair<int, int> box, std::pair<int, int> crop,
             vitrify::Interpolation interpolation, const std::vector<double>& mean, const std::vector<double>& std,
             const std::vector<int>& fill) {
            auto* made = new (self) vitrify::Preprocess();
            made->resize_rule = rule;
            made->resize_box = {box.first, box.second};
            made->crop = {crop.first, crop.second};
            made->interpolation = interpolation;
            for (std::size_t c = 0; c < 3; ++c) {
              made->mean[c] = static_cast<float>(mean.at(c));
              made->std[c] = static_cast<float>(std.at(c));
              made->fill[c] = static_cast<std::uint8_t>(fill.at(c));
            }
          },
          "rule"_a, "box"_a, "crop"_a, "interpolation"_a, "mean"_a, "std"_a, "fill"_a);

  nb::class_<vitrify::DecodeLimits>(module, "DecodeLimits")
      .def(
          "__init__",
          [](vitrify::DecodeLimits* self, std::int64_t max_bytes, std::int64_t max_pixels, std::int64_t max_ratio,
             std::int64_t max_memory, std::int64_t max_scan_pixels) {
            new (self) vitrify::DecodeLimits{max_bytes, max_pixels, max_ratio, max_memory, max_scan_pixels};
          },
          "max_bytes"_a, "max_pixels"_a, "max_ratio"_a, "max_memory"_a, "max_scan_pixels"_a);

  // The name of the format, where this build decodes it; Pillow does where it does not.
  module.def("decodable_format", [](nb::bytes data) -> std::optional<std::string> {
    const auto format = vitrify::format_of(static_cast<const std::uint8_t*>(data.data()), data.size());
    return vitrify::can_decode(format) ? std::optional<std::string>(vitrify::name_of(format)) : std::nullopt;
  });

  // The checks of an image that Pillow decodes.
  module.def(
      "check_bytes",
      [](std::size_t bytes, const vitrify::DecodeLimits& limits) { vitrify::pixels::check_bytes(bytes, limits); },
      "bytes"_a, "limits"_a);
  module.def(
      "check_dimensions",
      [](std::int64_t width, std::int64_t height, std::size_t bytes, const vitrify::DecodeLimits& limits) {
        vitrify::pixels::check_dimensions(width, height, bytes, limits);
      },
      "width"_a, "height"_a, "bytes"_a, "limits"_a);
  module.def(
      "check_memory",
      [](const std::string& what, std::int64_t width, std::int64_t height, std::int64_t pixel_bytes,
         const vitrify::DecodeLimits& limits) {
        vitrify::pixels::check_memory(what, width, height, pixel_bytes, limits);
      },
      "what"_a, "width"_a, "height"_a, "pixel_bytes"_a, "limits"_a);

  module.def(
      "decode",
      [](nb::bytes data, const vitrify::DecodeLimits& limits) {
        vitrify::DecodeOptions options;
        options.limits = limits;
        vitrify::Image image;
        {
          nb::gil_scoped_release unlocked;
          image = vitrify::decode(static_cast<const std::uint8_t*>(data.data()), data.size(), options);
        }
        return to_array(std::move(image));
      },
      "data"_a, "limits"_a);

  module.def(
      "resize",
      [](Pixels rgb, int width, int height, vitrify::Interpolation interpolation) {
        const vitrify::Size from = size_of(rgb);
        vitrify::Image image;
        {
          nb::gil_scoped_release unlocked;
          image = vitrify::resize(rgb.data(), from, {width, height}, interpolation);
        }
        return to_array(std::move(image));
      },
      "rgb"_a, "width"_a, "height"_a, "interpolation"_a);

  module.def(
      "preprocess",
      [](nb::list images, const vitrify::Preprocess& spec, const vitrify::DecodeLimits& limits, bool fast,
         nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu> out, Threads& threads) {
        vitrify::DecodeOptions options;
        options.limits = limits;
        options.fast = fast;
        return preprocess(std::move(images), spec, options, std::move(out), threads);
      },
      "images"_a, "spec"_a, "limits"_a, "fast"_a, "out"_a, "workers"_a);

  define_batches(module);

  module.def("available_threads", &vitrify::machine::available_threads);
  module.def("processor_name", [] { return vitrify::machine::processor().name; });
  module.def("instruction_sets", [] { return vitrify::machine::processor().instruction_sets; });
  module.def("saturates_8bit", &vitrify::machine::saturates_8bit);

  module.def("available_kernels", &vitrify::available_kernels);
  module.def("kernels_in_use", &vitrify::kernels_in_use);
  module.def("use_kernels", &vitrify::use_kernels, "name"_a);
}
