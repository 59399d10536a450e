// The cuda engine without a GPU: a graph is read and recognised, and the network that was found in it, computed here in
// float64, gives the artifact's golden logits. Damaged files and graphs of other networks are refused.
//   test_cuda_network TINY.onnx [MORE.onnx...]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "engines/cuda/vit.hpp"
#include "vit_reference.hpp"
#include "vitrify/error.hpp"
#include "vitrify/spec.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::engines;

void test_golden_logits(const std::string& path) {
  const ModelSpec spec = read_spec(path);
  const OnnxGraph graph = read_onnx_graph(path);
  const Vit vit = vit_from_graph(graph, spec, path);
  std::printf("%s: %zu blocks of %d, %d heads of %d, %d tokens of which %d are no patches, %s\n", path.c_str(),
              vit.blocks.size(), vit.width, vit.heads, vit.head, vit.tokens, vit.prefix,
              vit.mean ? "their mean" : "one of them");
  CHECK(!spec.golden.empty(), "golden vectors in " + path);
  for (const GoldenVector& golden : spec.golden) {
    const test::Rows logits = test::logits_of(vit, golden_input(spec.preprocess.crop, golden.seed, golden.cell));
    double worst = 0;
    double largest = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      worst = std::max(worst, std::fabs(logits[i] - static_cast<double>(golden.logits[i])));
      largest = std::max(largest, std::fabs(static_cast<double>(golden.logits[i])));
    }
    CHECK(worst < 1e-4 * largest, path + ": " + std::to_string(worst) + " of " + std::to_string(largest));
    if (vit.tokens > 100) {
      break;  // one is slow enough
    }
  }
}

template <typename Change>
std::string refusal(const std::string& path, Change change) {
  OnnxGraph graph = read_onnx_graph(path);
  change(graph);
  try {
    static_cast<void>(vit_from_graph(graph, read_spec(path), path));
  } catch (const ArtifactError& error) {
    return error.what();
  }
  return {};
}

OnnxNode& first(OnnxGraph& graph, const std::string& op) {
  for (OnnxNode& node : graph.nodes) {
    if (node.op == op) {
      return node;
    }
  }
  std::fprintf(stderr, "no %s\n", op.c_str());
  std::exit(1);
}

// A network that differs in one node is refused, with that node.
void test_other_networks(const std::string& path) {
  for (const char* op : {"Conv", "Reshape", "Transpose", "LayerNormalization", "MatMul", "Softmax", "Erf", "Gemm",
                         "Slice", "Squeeze", "Div"}) {
    const std::string what = refusal(path, [&](OnnxGraph& graph) { first(graph, op).op = "Tanh"; });
    CHECK(what.find("does not compute") != std::string::npos, std::string("a Tanh for a ") + op);
  }
  const auto refused = [&](const std::string& name, auto change) {
    CHECK(!refusal(path, change).empty(), name + " is refused");
  };
  refused("another softmax axis",
          [](OnnxGraph& graph) { first(graph, "Softmax").attributes = {{"axis", 0, 1, {}, {}}}; });
  refused("a norm along another axis",
          [](OnnxGraph& graph) { first(graph, "LayerNormalization").attributes = {{"axis", 0, 1, {}, {}}}; });
  refused("a padded convolution", [](OnnxGraph& graph) {
    for (OnnxAttribute& attribute : first(graph, "Conv").attributes) {
      if (attribute.name == "pads") {
        attribute.ints = {1, 1, 1, 1};
      }
    }
  });
  refused("another order of the heads", [](OnnxGraph& graph) {
    for (OnnxNode& node : graph.nodes) {
      if (node.op == "Transpose" && node.attributes.front().ints.size() == 5) {
        node.attributes.front().ints = {2, 0, 1, 3, 4};
      }
    }
  });
  refused("another domain's product", [](OnnxGraph& graph) { first(graph, "MatMul").domain = "com.example"; });
  refused("a second output", [](OnnxGraph& graph) { graph.outputs.emplace_back("more"); });
  refused("no weights", [](OnnxGraph& graph) { graph.constants.clear(); });
  refused("no nodes", [](OnnxGraph& graph) { graph.nodes.clear(); });
  refused("a node without outputs", [](OnnxGraph& graph) { first(graph, "Softmax").outputs.clear(); });
}

// Whatever is in a file, it is read or refused: sanitizers see the rest.
void test_damaged_files(const std::string& path) {
  const std::vector<std::uint8_t> whole = test::read_file(path);
  const std::string damaged = std::filesystem::temp_directory_path() / "vitrify_test_cuda_network.onnx";
  const ModelSpec spec = read_spec(path);
  std::mt19937 random(1);
  int refused = 0;
  constexpr int files = 2000;
  for (int i = 0; i < files; ++i) {
    std::vector<std::uint8_t> bytes = whole;
    if (i % 4 == 0) {
      bytes.resize(random() % bytes.size());
    } else {
      for (unsigned k = 0; k <= random() % 4; ++k) {
        // Most of a file are weights, whose bytes may be anything: what is before them is aimed at.
        bytes[random() % (i % 2 == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 12000))] =
            static_cast<std::uint8_t>(random());
      }
    }
    std::ofstream(damaged, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    try {
      const OnnxGraph graph = read_onnx_graph(damaged);
      static_cast<void>(vit_from_graph(graph, spec, damaged));
    } catch (const ArtifactError&) {
      ++refused;
    }
  }
  std::filesystem::remove(damaged);
  CHECK(refused > files / 4, std::to_string(refused) + " of " + std::to_string(files) + " damaged files were refused");
  std::printf("%d of %d damaged files refused\n", refused, files);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: test_cuda_network TINY.onnx [MORE.onnx...]\n");
    return 2;
  }
  for (int i = 1; i < count; ++i) {
    test_golden_logits(arguments[i]);
  }
  test_other_networks(arguments[1]);
  test_damaged_files(arguments[1]);
  return test::check_result();
}
