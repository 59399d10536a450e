// What a classifier holds.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>

#include "vitrify/classifier.hpp"
#include "workers.hpp"

namespace vitrify {

struct Classifier::State {
  // Throws OptionError.
  State(ModelSpec model, std::unique_ptr<Engine> network, const ClassifierOptions& choices, Precision chosen);

  // A GPU is kept busy by another batch while one is decoded.
  static std::size_t batches_at_once(const Engine* engine, const ClassifierOptions& options);

  ModelSpec spec;
  std::unique_ptr<Engine> engine;
  ClassifierOptions options;
  Precision precision;
  bool dequantized = false;
  std::string path;     // empty where the engine was given
  const pid_t process;  // whose threads these are
  bool pixels_on_gpu = false;
  pixels::Workers workers;  // prepare images
  pixels::Workers callers;  // run batches
  std::size_t threads;      // of `workers`, and so of one image where it is alone
};

}  // namespace vitrify
