#include "coefficients.hpp"

#include <algorithm>
#include <cmath>

// Built with -ffp-contract=off: a fused multiply-add would round differently from Pillow's build and shift a weight.

namespace vitrify::pixels {
namespace {

constexpr double kPi = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) {
    return 1.0;
  }
  if (x >= 1.0) {
    return 0.0;
  }
  x = x * kPi;
  return std::sin(x) / x * (0.54F + 0.46F * std::cos(x));  // single-precision constants, as in Pillow
}

double bicubic(double x) {
  constexpr double a = -0.5;  // Keys' cubic convolution, IEEE ASSP 29 (1981)
  x = std::abs(x);
  if (x < 1.0) {
    return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  }
  if (x < 2.0) {
    return (((x - 5) * x + 8) * x - 4) * a;
  }
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) {
    return 1.0;
  }
  x = x * kPi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;
};

Filter filter_of(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::box:
      return {box, 0.5};
    case Interpolation::bilinear:
      return {bilinear, 1.0};
    case Interpolation::hamming:
      return {hamming, 1.0};
    case Interpolation::bicubic:
      return {bicubic, 2.0};
    case Interpolation::lanczos:
      return {lanczos, 3.0};
    case Interpolation::nearest:
      break;
  }
  throw std::invalid_argument("nearest has no weights");
}

std::int32_t fixed_point(double weight) {
  constexpr double one = 1 << kPrecisionBits;
  return static_cast<std::int32_t>(weight < 0 ? -0.5 + weight * one : 0.5 + weight * one);
}

}  // namespace

int Coefficients::input_begin() const { return *std::min_element(first.begin(), first.end()); }

int Coefficients::input_end() const {
  int end = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    end = std::max(end, first[i] + count[i]);
  }
  return end;
}

Coefficients make_coefficients(int input, int output, int begin, int end, Interpolation interpolation) {
  const Filter filter = filter_of(interpolation);
  const double scale = static_cast<double>(input) / output;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double step = 1.0 / filter_scale;

  Coefficients result;
  result.taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  const auto outputs = static_cast<std::size_t>(end - begin);
  result.first.resize(outputs);
  result.count.resize(outputs);
  result.weights.assign(outputs * static_cast<std::size_t>(result.taps), 0);
  std::vector<double> exact(static_cast<std::size_t>(result.taps));
  for (std::size_t i = 0; i < outputs; ++i) {
    const double center = (begin + static_cast<int>(i) + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int last = std::min(static_cast<int>(center + support + 0.5), input);
    const int count = last - first;
    double sum = 0.0;
    for (int k = 0; k < count; ++k) {
      exact[static_cast<std::size_t>(k)] = filter.weight((k + first - center + 0.5) * step);
      sum += exact[static_cast<std::size_t>(k)];
    }
    std::int32_t* weights = &result.weights[i * static_cast<std::size_t>(result.taps)];
    for (int k = 0; k < count; ++k) {
      double weight = exact[static_cast<std::size_t>(k)];
      if (sum != 0.0) {
        weight /= sum;
      }
      weights[k] = fixed_point(weight);
    }
    result.first[i] = first;
    result.count[i] = count;
  }
  return result;
}

std::vector<int> nearest_inputs(int input, int output, int begin, int end) {
  const double scale = static_cast<double>(input) / output;
  std::vector<int> inputs(static_cast<std::size_t>(end - begin));
  // Pillow adds the step up instead of multiplying, and its rounding errors are part of the answer.
  double position = scale * 0.5;
  for (int x = 0; x < end; ++x) {
    if (x >= begin) {
      inputs[static_cast<std::size_t>(x - begin)] = std::clamp(static_cast<int>(position), 0, input - 1);
    }
    position += scale;
  }
  return inputs;
}

}  // namespace vitrify::pixels
