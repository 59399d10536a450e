// Starts the network's own kernels on a stream. Device pointers everywhere; rows are contiguous.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace vitrify::cuda {

// Images, NCHW in float32 or float16, to rows of patches.
struct PatchShape {
  int images;
  int height;  // of an image
  int width;
  int patch;
  int prefix;  // rows of an image before its patches, which stay as they are
  int depth;   // values in a row, 3 * patch * patch or more; the rest stays as it is
};
cudaError_t launch_patches(const PatchShape& shape, const void* pixels, bool half, __half* rows, cudaStream_t stream);

// (x + constant - mean) / sqrt(variance + epsilon) of each row, in float16, or times *scale in e4m3. A norm's weight
// and bias belong to the product that follows. Rows of x are x_stride values apart.
struct NormShape {
  int rows;
  int width;  // a multiple of 8, 2048 at most
  std::int64_t x_stride;
  float epsilon;
};
inline constexpr int kWidestNorm = 2048;
cudaError_t launch_normalise(const NormShape& shape, const __half* x, const float* constant, void* y,
                             const float* scale, bool e4m3, cudaStream_t stream);

// A block for each head, or a head's queries dealt out to several, where heads alone leave the GPU idle.
enum class Attention : std::uint8_t { whole, spread };

struct AttentionShape {
  int images;
  int tokens;
  int heads;
  int head;  // width of one
};
// Whether keys and values of such a head find room in a multiprocessor.
[[nodiscard]] bool attention_fits(int head, int tokens);
// qkv is [images, tokens, 3, heads, head] float16; out [images, tokens, heads * head] in float16, or times *scale in
// e4m3.
cudaError_t launch_attention(const AttentionShape& shape, const __half* qkv, void* out, const float* scale, bool e4m3,
                             Attention way, cudaStream_t stream);

// The same by Hopper's warpgroup products, for heads of 64, and whether that is the faster way here.
cudaError_t launch_attention_warpgroup(const AttentionShape& shape, const __half* qkv, void* out, const float* scale,
                                       bool e4m3, Attention way, cudaStream_t stream);
[[nodiscard]] bool attention_by_warpgroups(const AttentionShape& shape);

// The attention of one query an image: q is [images, heads * head], kv [images, tokens, 2, heads, head], out
// [images, heads * head].
cudaError_t launch_token_attention(const AttentionShape& shape, const __half* q, const __half* kv, __half* out,
                                   cudaStream_t stream);

// Means of rows [first, tokens) of each image, [images, width].
cudaError_t launch_mean(const __half* x, __half* out, int images, int tokens, int first, int width,
                        cudaStream_t stream);

// Weights in float32 to float16, or times `scale` to e4m3.
cudaError_t launch_convert(const float* from, std::int64_t count, float scale, void* to, bool e4m3,
                           cudaStream_t stream);

// *most = the largest magnitude among `count` values, if it is larger than what is there.
cudaError_t launch_magnitude(const __half* x, std::int64_t count, float* most, cudaStream_t stream);

}  // namespace vitrify::cuda
