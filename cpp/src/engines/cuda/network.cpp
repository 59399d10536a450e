#include "network.hpp"

#include <algorithm>

#include "vit_kernels.hpp"

namespace vitrify::engines {
namespace {

constexpr int kFewHeads = 200;      // of all images; up to here, a head's queries are dealt out to several blocks
constexpr int kWholeBatches = 32;   // up to here, a batch is never cut
constexpr float kWorthIt = 0.998F;  // less is noise

void start(cudaError_t status) { check(status, "CUDA does not start a kernel"); }

}  // namespace

Network::Network(const Weights& weights, Tunings tunings)
    : weights_(&weights), tunings_(std::move(tunings)), stream_(create_stream()) {}

void Network::reserve(int count) {
  if (count <= room_) {
    return;
  }
  recorded_.clear();  // they know the old addresses
  const Vit& vit = weights_->vit;
  const auto images = static_cast<std::size_t>(count);
  const std::size_t rows = images * static_cast<std::size_t>(vit.tokens);
  const auto width = static_cast<std::size_t>(vit.width);
  const auto hidden = static_cast<std::size_t>(vit.hidden);
  for (DeviceMemory* one :
       {&pixels_, &logits_, &rows_, &x_, &y_, &wide_, &hidden_, &token_x_, &token_y_, &token_q_, &token_hidden_}) {
    one->reset();
  }
  room_ = 0;
  const std::size_t pixels = 3 * static_cast<std::size_t>(vit.image_height) * static_cast<std::size_t>(vit.image_width);
  pixels_ = device_memory(images * pixels * sizeof(float));
  logits_ = device_memory(images * static_cast<std::size_t>(vit.classes) * sizeof(float));
  // Rows of prefix tokens and the padding of others stay zero: the product adds what they are.
  const std::size_t row_bytes = rows * static_cast<std::size_t>(weights_->depth) * 2;
  rows_ = device_memory(row_bytes);
  check(cudaMemset(rows_.get(), 0, row_bytes), "CUDA does not clear memory");
  x_ = device_memory(rows * width * 2);
  y_ = device_memory(rows * width * 2);
  wide_ = device_memory(rows * 3 * width * 2);
  hidden_ = device_memory(rows * hidden * 2);
  token_x_ = device_memory(images * width * 2);
  token_y_ = device_memory(images * width * 2);
  token_q_ = device_memory(images * width * 2);
  token_hidden_ = device_memory(images * hidden * 2);
  check(cudaDeviceSynchronize(), "the GPU failed to clear memory");
  room_ = count;
}

void Network::run(int count, bool half) {
  auto found = recorded_.find({count, half});
  if (found == recorded_.end()) {
    found = recorded_.emplace(Key{count, half}, tuned(count, half)).first;
  }
  check(cudaGraphLaunch(found->second.graph.get(), stream_.get()), "CUDA does not launch a graph");
}

int Network::piece_of(int count, bool half) const {
  const auto found = recorded_.find({count, half});
  return found == recorded_.end() ? 0 : found->second.piece;
}

// Everything that the fastest choice depends on. The products' own shapes are in the file, and compared there.
std::string Network::key(int count, bool half) const {
  const Vit& vit = weights_->vit;
  std::string text = "format=1\n" + products_.machine();
  const auto line = [&](const char* name, int value) { text += name + ('=' + std::to_string(value)) + '\n'; };
  line("batch", count);
  line("half", half ? 1 : 0);
  line("e4m3", weights_->e4m3 ? 1 : 0);
  line("height", vit.image_height);
  line("width", vit.image_width);
  line("patch", vit.patch);
  line("prefix", vit.prefix);
  line("tokens", vit.tokens);
  line("channels", vit.width);
  line("heads", vit.heads);
  line("head", vit.head);
  line("hidden", vit.hidden);
  line("blocks", static_cast<int>(vit.blocks.size()));
  line("mean", vit.mean ? 1 : 0);
  line("norm_before_mean", vit.norm_before_mean ? 1 : 0);
  line("classes", vit.classes);
  return text;
}

Network::Recorded Network::tuned(int count, bool half) {
  const std::string key = this->key(count, half);
  if (const auto kept = tunings_.read(key); kept && kept->piece <= count) {
    std::vector<ProductShape> shapes;
    for (const auto& [shape, algorithm] : kept->products) {
      products_.restore(shape, algorithm);
      shapes.push_back(shape);
    }
    const std::size_t before = products_.timings();
    work(count, half, kept->piece);
    check(cudaStreamSynchronize(stream_.get()), "the GPU failed on a batch of " + std::to_string(count));
    if (products_.timings() == before) {
      return record(count, half, kept->piece);
    }
    products_.forget(shapes);  // cuBLASLt refuses one of them: none is trusted
  }
  Recorded fastest = best(count, half);
  Tuning tuning;
  tuning.piece = fastest.piece;
  for (const ProductShape& shape : fastest.shapes) {
    tuning.products.emplace_back(shape, products_.algorithm(shape));
  }
  tunings_.keep(key, tuning);
  return fastest;
}

// A large batch may be faster in pieces, whose rows stay in the GPU's cache between kernels; and what is the fastest
// product alone, its weights in the cache and the GPU cool, need not be so here.
Network::Recorded Network::best(int count, bool half) {
  Recorded fastest;
  float least = 0;
  for (int parts = 1; parts == 1 || count / parts >= kWholeBatches; parts *= 2) {
    const int piece = (count + parts - 1) / parts;
    work(count, half, piece);  // times the products that are new
    Recorded one = record(count, half, piece);
    const float milliseconds = time(one);
    if (parts == 1 || milliseconds < least * kWorthIt) {
      least = milliseconds;
      fastest = std::move(one);
    }
  }
  for (const ProductShape& shape : std::vector(fastest.shapes)) {
    std::size_t chosen = products_.choice(shape);
    for (std::size_t choice = 0; choice < products_.choices(shape); ++choice) {
      if (choice == chosen) {
        continue;
      }
      products_.choose(shape, choice);
      Recorded other = record(count, half, fastest.piece);
      // In turns: a GPU at its power's limit changes its clock from one to the next.
      const float before = time(fastest) + time(fastest);
      const float after = time(other) + time(other);
      if (after < before * kWorthIt && time(other) < time(fastest)) {
        chosen = choice;
        fastest = std::move(other);
      }
    }
    products_.choose(shape, chosen);
  }
  return fastest;
}

Network::Recorded Network::record(int count, bool half, int piece) {
  products_.forget_started();
  ExecutableGraph graph = recorded(stream_.get(), [&] { work(count, half, piece); });
  return {std::move(graph), piece, products_.started()};
}

// Milliseconds of a launch, the better of two.
float Network::time(const Recorded& one) {
  const Event begin = create_event(cudaEventDefault);
  const Event end = create_event(cudaEventDefault);
  float best = 0;
  for (int round = 0; round < 2; ++round) {
    check(cudaEventRecord(begin.get(), stream_.get()), "CUDA records no event");
    check(cudaGraphLaunch(one.graph.get(), stream_.get()), "CUDA does not launch a graph");
    check(cudaEventRecord(end.get(), stream_.get()), "CUDA records no event");
    check(cudaEventSynchronize(end.get()), "the GPU failed on a batch");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "CUDA measures no time");
    best = round == 0 || milliseconds < best ? milliseconds : best;
  }
  return best;
}

void Network::work(int count, bool half, int piece_size) {
  const Vit& vit = weights_->vit;
  const std::size_t image = 3 * static_cast<std::size_t>(vit.image_height) * static_cast<std::size_t>(vit.image_width) *
                            (half ? 2 : sizeof(float));
  for (int begin = 0; begin < count; begin += piece_size) {
    piece(static_cast<const unsigned char*>(pixels_.get()) + static_cast<std::size_t>(begin) * image, half,
          std::min(piece_size, count - begin),
          static_cast<float*>(logits_.get()) + static_cast<std::ptrdiff_t>(begin) * vit.classes);
  }
}

void Network::piece(const unsigned char* pixels, bool half, int images, float* logits) {
  const Vit& vit = weights_->vit;
  start(cuda::launch_patches({images, vit.image_height, vit.image_width, vit.patch, vit.prefix, weights_->depth},
                             pixels, half, static_cast<__half*>(rows_.get()), stream_.get()));
  ProductShape embedding;
  embedding.rows = vit.tokens;
  embedding.outputs = vit.width;
  embedding.inputs = weights_->depth;
  embedding.adds = true;
  embedding.x_row = weights_->depth;
  embedding.c_row = embedding.d_row = vit.width;
  embedding.images = images;
  embedding.x_image = static_cast<std::int64_t>(vit.tokens) * weights_->depth;
  embedding.d_image = static_cast<std::int64_t>(vit.tokens) * vit.width;
  if (images == 1) {
    embedding.x_image = embedding.d_image = 0;
  }
  ProductOperands operands;
  operands.weight = weights_->patches.weight.get();
  operands.x = rows_.get();
  operands.c = weights_->base.get();
  operands.d = x_.get();
  products_.run(embedding, operands, stream_.get());
  const std::size_t whole = vit.mean ? vit.blocks.size() : vit.blocks.size() - 1;
  for (std::size_t i = 0; i < whole; ++i) {
    block(weights_->blocks[i], vit.blocks[i], images);
  }
  if (!vit.mean) {
    last_block(weights_->blocks.back(), vit.blocks.back(), images);
  }
  head(images, logits);
}

void Network::product(const Weights::Layer& layer, const void* x, void* d, int rows, Epilogue epilogue, bool adds,
                      const Weights::BlockWeights::Scale& scale, const float* d_scale) {
  ProductShape shape;
  shape.rows = rows;
  shape.outputs = layer.outputs;
  shape.inputs = layer.inputs;
  shape.operands = layer.number;
  shape.result = d_scale != nullptr ? Number::e4m3 : Number::float16;
  shape.epilogue = epilogue;
  shape.adds = adds;
  shape.x_row = layer.inputs;
  shape.c_row = shape.d_row = layer.outputs;
  ProductOperands operands;
  operands.weight = layer.weight.get();
  operands.x = x;
  operands.c = d;
  operands.d = d;
  operands.bias = layer.bias.get();
  operands.weight_scale = layer.weight_scale;
  operands.x_scale = scale.back;
  operands.d_scale = d_scale;
  products_.run(shape, operands, stream_.get());
}

void Network::look(const void* values, std::int64_t count) {
  if (looked_ != nullptr) {
    start(cuda::launch_magnitude(static_cast<const __half*>(values), count, looked_++, stream_.get()));
  }
}

void Network::block(const Weights::BlockWeights& weights, const Block& numbers, int images) {
  const Vit& vit = weights_->vit;
  const int rows = images * vit.tokens;
  const bool e4m3 = weights_->e4m3;
  const std::int64_t values = static_cast<std::int64_t>(rows) * vit.width;
  const auto* x = static_cast<const __half*>(x_.get());
  start(cuda::launch_normalise({rows, vit.width, vit.width, numbers.attention_epsilon}, x,
                               static_cast<const float*>(weights.before_attention.get()), y_.get(),
                               weights.attention_norm.forth, e4m3, stream_.get()));
  look(y_.get(), values);
  product(weights.qkv, y_.get(), wide_.get(), rows, Epilogue::bias, false, weights.attention_norm, nullptr);
  const cuda::AttentionShape attention{images, vit.tokens, vit.heads, vit.head};
  const auto launch =
      cuda::attention_by_warpgroups(attention) ? cuda::launch_attention_warpgroup : cuda::launch_attention;
  start(launch(attention, static_cast<const __half*>(wide_.get()), y_.get(), weights.attention.forth, e4m3,
               images * vit.heads <= kFewHeads ? cuda::Attention::spread : cuda::Attention::whole, stream_.get()));
  look(y_.get(), values);
  product(weights.projection, y_.get(), x_.get(), rows, Epilogue::none, true, weights.attention, nullptr);
  start(cuda::launch_normalise({rows, vit.width, vit.width, numbers.mlp_epsilon}, x,
                               static_cast<const float*>(weights.before_mlp.get()), y_.get(), weights.mlp_norm.forth,
                               e4m3, stream_.get()));
  look(y_.get(), values);
  product(weights.up, y_.get(), hidden_.get(), rows, Epilogue::gelu_bias, false, weights.mlp_norm, weights.gelu.forth);
  look(hidden_.get(), static_cast<std::int64_t>(rows) * vit.hidden);
  product(weights.down, hidden_.get(), x_.get(), rows, Epilogue::none, true, weights.gelu, nullptr);
}

// Keys and values of every token; all the rest of the one that the head reads.
void Network::last_block(const Weights::BlockWeights& weights, const Block& numbers, int images) {
  const Vit& vit = weights_->vit;
  const int rows = images * vit.tokens;
  const std::size_t element = weights_->e4m3 ? 1 : 2;
  const auto width = static_cast<std::size_t>(vit.width);
  const std::int64_t image = static_cast<std::int64_t>(vit.tokens) * vit.width;
  start(cuda::launch_normalise({rows, vit.width, vit.width, numbers.attention_epsilon},
                               static_cast<const __half*>(x_.get()),
                               static_cast<const float*>(weights.before_attention.get()), y_.get(),
                               weights.attention_norm.forth, weights_->e4m3, stream_.get()));
  look(y_.get(), static_cast<std::int64_t>(rows) * vit.width);
  ProductShape shape;
  shape.inputs = vit.width;
  shape.operands = weights.qkv.number;
  shape.epilogue = Epilogue::bias;
  ProductOperands operands;
  operands.weight_scale = weights.qkv.weight_scale;
  operands.x_scale = weights.attention_norm.back;
  shape.rows = rows;
  shape.outputs = 2 * vit.width;
  shape.x_row = vit.width;
  shape.c_row = shape.d_row = 2 * std::int64_t{vit.width};
  operands.weight = static_cast<const unsigned char*>(weights.qkv.weight.get()) + width * width * element;
  operands.bias = static_cast<const unsigned char*>(weights.qkv.bias.get()) + width * 2;
  operands.x = y_.get();
  operands.d = wide_.get();
  products_.run(shape, operands, stream_.get());
  shape.rows = images;
  shape.outputs = vit.width;
  shape.x_row = image;
  shape.c_row = shape.d_row = vit.width;
  operands.weight = weights.qkv.weight.get();
  operands.bias = weights.qkv.bias.get();
  operands.x = static_cast<const unsigned char*>(y_.get()) + static_cast<std::size_t>(vit.token) * width * element;
  operands.d = token_q_.get();
  products_.run(shape, operands, stream_.get());
  start(cuda::launch_token_attention(
      {images, vit.tokens, vit.heads, vit.head}, static_cast<const __half*>(token_q_.get()),
      static_cast<const __half*>(wide_.get()), static_cast<__half*>(token_y_.get()), stream_.get()));
  ProductShape projection;
  projection.rows = images;
  projection.outputs = projection.inputs = vit.width;
  projection.adds = true;
  projection.x_row = projection.d_row = vit.width;
  projection.c_row = image;
  ProductOperands residual;
  residual.weight = weights.projection.weight.get();
  residual.x = token_y_.get();
  residual.c = static_cast<const __half*>(x_.get()) + static_cast<std::size_t>(vit.token) * width;
  residual.d = token_x_.get();
  products_.run(projection, residual, stream_.get());
  start(cuda::launch_normalise(
      {images, vit.width, vit.width, numbers.mlp_epsilon}, static_cast<const __half*>(token_x_.get()),
      static_cast<const float*>(weights.before_mlp.get()), token_y_.get(), nullptr, false, stream_.get()));
  product(weights.up, token_y_.get(), token_hidden_.get(), images, Epilogue::gelu_bias, false, {}, nullptr);
  product(weights.down, token_hidden_.get(), token_x_.get(), images, Epilogue::none, true, {}, nullptr);
}

void Network::head(int images, float* logits) {
  const Vit& vit = weights_->vit;
  const auto* constant = static_cast<const float*>(weights_->before_head.get());
  const auto normalise = [&](const void* x, const float* added, void* y, int rows) {
    start(cuda::launch_normalise({rows, vit.width, vit.width, vit.epsilon}, static_cast<const __half*>(x), added, y,
                                 nullptr, false, stream_.get()));
  };
  if (!vit.mean) {
    normalise(token_x_.get(), constant, token_y_.get(), images);
  } else if (vit.norm_before_mean) {
    normalise(x_.get(), constant, y_.get(), images * vit.tokens);
    start(cuda::launch_mean(static_cast<const __half*>(y_.get()), static_cast<__half*>(token_y_.get()), images,
                            vit.tokens, vit.token, vit.width, stream_.get()));
  } else {
    start(cuda::launch_mean(static_cast<const __half*>(x_.get()), static_cast<__half*>(token_x_.get()), images,
                            vit.tokens, vit.token, vit.width, stream_.get()));
    normalise(token_x_.get(), constant, token_y_.get(), images);
  }
  ProductShape shape;
  shape.rows = images;
  shape.outputs = vit.classes;
  shape.inputs = vit.width;
  shape.result = Number::float32;
  shape.epilogue = Epilogue::bias;
  shape.x_row = vit.width;
  shape.c_row = shape.d_row = vit.classes;
  ProductOperands operands;
  operands.weight = weights_->classifier.weight.get();
  operands.x = token_y_.get();
  operands.d = logits;
  operands.bias = weights_->classifier.bias.get();
  products_.run(shape, operands, stream_.get());
}

std::vector<Magnitudes> Network::magnitudes(int count, bool half) {
  const std::size_t blocks = weights_->blocks.size();
  const DeviceMemory memory = device_memory(4 * blocks * sizeof(float));
  check(cudaMemset(memory.get(), 0, 4 * blocks * sizeof(float)), "CUDA does not clear memory");
  work(count, half, count);  // so that no product is timed while calibration looks
  looked_ = static_cast<float*>(memory.get());
  work(count, half, count);
  looked_ = nullptr;
  check(cudaStreamSynchronize(stream_.get()), "the GPU failed on a batch of " + std::to_string(count));
  std::vector<float> found(4 * blocks);
  check(cudaMemcpy(found.data(), memory.get(), found.size() * sizeof(float), cudaMemcpyDeviceToHost),
        "CUDA does not copy");
  std::vector<Magnitudes> magnitudes;
  for (std::size_t i = 0; i < blocks; ++i) {
    magnitudes.push_back({found[4 * i], found[4 * i + 1], found[4 * i + 2], found[4 * i + 3]});
  }
  return magnitudes;
}

}  // namespace vitrify::engines
