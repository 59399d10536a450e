// Batches whose pixels a GPU prepares: their images' headers, the plan of the resize, and decoding to given memory.
#include "native.hpp"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "kernel_sources.hpp"
#include "preprocess.hpp"
#include "reader.hpp"
#include "shares.hpp"

namespace vitrify::python {
namespace {

using namespace nb::literals;

// An image whose header was read and whose limits were checked, with what keeps its bytes alive.
struct StoredImage {
  nb::object owner;
  Source source;
  Size size;  // as stored
  int orientation = 1;
  std::unique_ptr<pixels::Reader> reader;  // where it is encoded; it reads once
};

// Reads the header. Throws ImageError, also for a size that the resize refuses.
void open(StoredImage& image, const Preprocess& spec, const DecodeLimits& limits) {
  if (image.source.encoded) {
    image.reader = pixels::open(image.source.data, image.source.bytes, limits);
    image.size = image.reader->size();
    image.orientation = image.reader->orientation();
  } else {
    image.size = image.source.size;
  }
  const bool exchanged = image.orientation >= 5;
  static_cast<void>(resized_size(exchanged ? Size{image.size.height, image.size.width} : image.size, spec));
}

// On up to `threads` threads, of which the workers give what they can spare.
void decode(StoredImage& image, const cuda::Window& window, Threads& threads, std::size_t most, std::uint8_t* memory) {
  const pixels::Range columns{window.column, window.column + window.size.width};
  const pixels::Range rows{window.row, window.row + window.size.height};
  const pixels::SinkFrom copy_from = pixels::copy_to(memory, columns, rows.begin);
  if (image.reader) {
    pixels::read_shared(*image.reader, columns, rows, copy_from, *threads.workers, most);
    return;
  }
  const pixels::RowSink copy = copy_from(rows.begin);
  const std::size_t stride = 3 * static_cast<std::size_t>(image.size.width);
  for (int y = rows.begin; y < rows.end; ++y) {
    copy({image.source.data + static_cast<std::size_t>(y) * stride});
  }
}

// Runs `work(i)` on the threads, without the GIL; gives what it threw.
template <typename Work>
std::vector<std::exception_ptr> each(pixels::Workers& workers, std::size_t count, Work work) {
  std::vector<std::exception_ptr> errors(count);
  nb::gil_scoped_release unlocked;
  workers.each(count, [&](std::size_t i) {
    try {
      work(i);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  return errors;
}

// A StoredImage or a Failure for each source.
nb::list open_all(Threads& threads, nb::list sources, const Preprocess& spec, const DecodeLimits& limits) {
  std::vector<StoredImage> images(sources.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    images[i].owner = nb::borrow(sources[i]);
    images[i].source = source_of(images[i].owner);
  }
  const auto errors = each(*threads.workers, images.size(), [&](std::size_t i) { open(images[i], spec, limits); });
  nb::list opened;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (errors[i]) {
      opened.append(nb::cast(failure_of(errors[i])));
    } else {
      opened.append(nb::cast(std::move(images[i])));
    }
  }
  return opened;
}

using Memory = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<std::optional<Failure>> decode_all(Threads& threads, nb::list images,
                                               const std::vector<cuda::Window>& windows, Memory memory) {
  std::vector<StoredImage*> opened;
  for (nb::handle image : images) {
    opened.push_back(nb::cast<StoredImage*>(image));
  }
  if (opened.size() != windows.size()) {
    throw nb::value_error("there are not as many windows as images");
  }
  const auto all = memory.size();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const cuda::Window& one = windows[i];
    const Size stored = opened[i]->size;
    const bool inside = one.column >= 0 && one.row >= 0 && one.size.width >= 0 && one.size.height >= 0 &&
                        one.size.width <= stored.width - one.column && one.size.height <= stored.height - one.row;
    if (!inside || one.at > all ||
        3 * static_cast<std::size_t>(one.size.width) * static_cast<std::size_t>(one.size.height) > all - one.at) {
      throw nb::value_error("a window lies outside its image or the memory");
    }
  }
  std::uint8_t* data = memory.data();
  const auto errors = each(*threads.workers, opened.size(), [&](std::size_t i) {
    decode(*opened[i], windows[i], threads, pixels::part_of(threads.count, opened.size(), i), data + windows[i].at);
  });
  std::vector<std::optional<Failure>> failures(errors.size());
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (errors[i]) {
      failures[i] = failure_of(errors[i]);
    }
  }
  return failures;
}

// width, height and orientation of each image, as it is stored, to a window each.
std::vector<cuda::Window> fill(cuda::Plan& plan, const std::vector<std::array<int, 3>>& images,
                               const Preprocess& spec) {
  nb::gil_scoped_release unlocked;
  plan.clear();
  std::vector<cuda::Window> windows;
  windows.reserve(images.size());
  for (const auto& [width, height, orientation] : images) {
    windows.push_back(plan.add({width, height}, orientation, spec));
  }
  return windows;
}

nb::bytes bytes_of(const void* data, std::size_t size) { return nb::bytes(data, size); }

}  // namespace

void define_batches(nb::module_& module) {
  nb::class_<StoredImage>(module, "StoredImage")
      .def_prop_ro("width", [](const StoredImage& image) { return image.size.width; })
      .def_prop_ro("height", [](const StoredImage& image) { return image.size.height; })
      .def_ro("orientation", &StoredImage::orientation);

  nb::class_<cuda::Window>(module, "Window")
      .def_ro("at", &cuda::Window::at)
      .def_ro("column", &cuda::Window::column)
      .def_ro("row", &cuda::Window::row)
      .def_prop_ro("width", [](const cuda::Window& window) { return window.size.width; })
      .def_prop_ro("height", [](const cuda::Window& window) { return window.size.height; });

  nb::class_<Threads>(module, "Workers")
      .def(nb::init<std::size_t>(), "threads"_a)
      .def("open", &open_all, "sources"_a, "spec"_a, "limits"_a)
      .def("decode", &decode_all, "images"_a, "windows"_a, "memory"_a);

  nb::class_<cuda::Plan>(module, "Plan")
      .def(nb::init<>())
      .def("fill", &fill, "images"_a, "spec"_a)
      .def_ro("pixel_bytes", &cuda::Plan::pixel_bytes)
      .def_prop_ro(
          "jobs",
          [](const cuda::Plan& plan) { return bytes_of(plan.jobs.data(), plan.jobs.size() * sizeof(cuda::Job)); })
      .def_prop_ro("numbers", [](const cuda::Plan& plan) {
        return bytes_of(plan.numbers.data(), plan.numbers.size() * sizeof(std::int32_t));
      });

  // What every pixel becomes: [3][256] float32.
  module.def(
      "normalised",
      [](const Preprocess& spec) {
        const cuda::Table table = cuda::normalised(spec);
        return bytes_of(table.data(), sizeof(table));
      },
      "spec"_a);

  // The kernel's sources by file name, for NVRTC, and the threads of its blocks.
  nb::dict sources;
  sources["preprocess.cu"] = kPreprocess;
  sources["tile.hpp"] = kTile;
  sources["job.hpp"] = kJob;
  module.attr("kernel_sources") = sources;
  module.attr("tile") = nb::make_tuple(cuda::kTileWidth, cuda::kTileHeight);
}

}  // namespace vitrify::python
