// What the parts of the Python extension share: images as Python hands them over, and failures as it gets them back.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include <unistd.h>

#include "vitrify/image.hpp"
#include "workers.hpp"

namespace vitrify::python {

namespace nb = nanobind;

using Pixels = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;

inline Size size_of(const Pixels& pixels) {
  return {static_cast<int>(pixels.shape(1)), static_cast<int>(pixels.shape(0))};
}

// One image of a batch: encoded bytes or pixels. Holds only pointers; Python keeps the objects alive.
struct Source {
  const std::uint8_t* data = nullptr;
  std::size_t bytes = 0;
  Size size;
  bool encoded = false;
};
Source source_of(nb::handle object);

// What an image failed with: problem, got, expected, hint.
using Failure = std::array<std::string, 4>;
Failure failure_of(const std::exception_ptr& error);

// A classifier's, for all of its batches.
struct Threads {
  explicit Threads(std::size_t threads) : count(threads), workers(std::make_unique<pixels::Workers>(threads)) {}
  ~Threads() {
    if (process != getpid()) {
      static_cast<void>(workers.release());  // a fork's copy: it has no threads that could be waited for
    }
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  std::size_t count;
  std::unique_ptr<pixels::Workers> workers;
  pid_t process = getpid();
};

// batches.cpp: images that are decoded for a GPU to prepare.
void define_batches(nb::module_& module);

}  // namespace vitrify::python
