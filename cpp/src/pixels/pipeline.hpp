// Rows of one image in, the resized crop out; no pixel is computed that the crop drops.
#pragma once

#include <cstdint>
#include <vector>

#include "coefficients.hpp"
#include "geometry.hpp"
#include "kernels.hpp"
#include "vitrify/image.hpp"

namespace vitrify::pixels {

struct Row;

// Resizes an image that arrives row by row, and keeps a window of the result. Pillow's two passes with 8 bits between
// them: horizontal as the rows come, then vertical; or the other way round where Pillow 13 does so.
class Pipeline {
 public:
  // `image` to `resized`, of which only the window `columns` x `rows` is wanted.
  Pipeline(Size image, Size resized, Range columns, Range rows, Interpolation interpolation);

  // What has to be pushed: the source never needs to give more.
  [[nodiscard]] Range input_rows() const { return input_rows_; }
  [[nodiscard]] Range input_columns() const { return input_columns_; }

  // Takes input rows one after the other, from one of them on. Several may be at work at once, each on rows of its own.
  class Feed {
   public:
    Feed(Pipeline& pipeline, int row);
    // Holds at least input_columns().
    void push(const Row& row);

   private:
    const Pipeline* pipeline_;
    std::uint8_t* out_;
    std::vector<std::uint8_t> planes_;
  };

  // Writes row `index` of the window, `columns.size() * 3` bytes, once every input row has been pushed.
  void row(int index, std::uint8_t* rgb);

 private:
  // `planes` is memory that the row is split in.
  void resample_row(const std::uint8_t* rgb, std::vector<std::uint8_t>& planes, std::uint8_t* out) const;
  void pick_nearest(const Row& row, std::uint8_t* out) const;

  Interpolation interpolation_;
  Range columns_;
  Range rows_;
  bool horizontal_ = false;
  bool vertical_ = false;
  bool vertical_first_ = false;
  Range input_rows_;
  Range input_columns_;
  Coefficients x_axis_;
  Coefficients y_axis_;
  std::vector<int> nearest_x_;
  std::vector<int> nearest_y_;
  HorizontalWeights x_weights_;
  const Kernels& kernels_;
  std::size_t stride_ = 0;     // of `middle_`
  std::size_t row_bytes_ = 0;  // of the window
  std::vector<std::uint8_t>
      middle_;                      // [input rows, columns, 3]: the window's after the horizontal pass, or the input's
  std::vector<std::uint8_t> line_;  // one row between the passes, where the vertical one comes first
  std::vector<std::uint8_t> planes_;
};

}  // namespace vitrify::pixels
