// The spec of tiny.onnx is read as Python wrote it, and every field that is missing, unknown, mistyped or out of range
// is a SpecError that names its path.
//   test_spec GOLDEN_FOLDER
#include <algorithm>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "check.hpp"
#include "golden.hpp"
#include "vitrify/spec.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;
using Json = nlohmann::ordered_json;

void test_fields(const ModelSpec& spec) {
  CHECK(spec.input.name == "image" && spec.input.dtype == ElementType::float32, "input");
  const Preprocess& preprocess = spec.preprocess;
  CHECK(preprocess.resize_rule == ResizeRule::shortest && preprocess.interpolation == Interpolation::bicubic, "rules");
  CHECK(preprocess.resize_box.height == 36 && preprocess.crop.width == 32, "sizes");
  CHECK(preprocess.mean[0] == 0.485F && preprocess.std[2] == 0.225F, "normalisation");
  CHECK(spec.output.name == "logits" && spec.output.task == Task::single_label, "output");
  CHECK(spec.labels.size() == 6 && spec.labels[2] == "バラ", "labels");
  CHECK(spec.source.architecture == "vit_tiny_patch16_224" && spec.source.checkpoint_sha256.size() == 64, "source");
  CHECK(spec.golden.size() == 3 && spec.golden[1].seed == 2 && spec.golden[1].cell == 4, "golden vectors");
  CHECK(spec.tensor_size() == 3 * 32 * 32, "tensor size");
  CHECK(spec.allows("openvino", Precision::fp32), "the record allows what passed on 32 images");
  CHECK(!spec.allows("openvino", Precision::fp16) && !spec.allows("abacus", Precision::fp32), "and nothing else");
}

// The message for a changed spec; empty where it was accepted.
std::string refusal(const Json& data) {
  try {
    static_cast<void>(parse_spec(data.dump()));
  } catch (const SpecError& error) {
    return error.what();
  }
  return {};
}

void test_refusals(const Json& good) {
  CHECK(refusal(good).empty(), "the unchanged spec was refused: " + refusal(good));
  const auto refused = [&](const std::string& path, const std::function<void(Json&)>& change) {
    Json changed = good;
    change(changed);
    const std::string message = refusal(changed);
    CHECK(message.find(path) != std::string::npos, path + " is not named in: " + message);
  };
  refused("spec.input", [](Json& spec) { spec["input"].erase("height"); });
  refused("unknown extra", [](Json& spec) { spec["extra"] = 1; });
  refused("no labels", [](Json& spec) { spec.erase("labels"); });
  refused("spec.input.channels", [](Json& spec) { spec["input"]["channels"] = 4; });
  refused("spec.input.layout", [](Json& spec) { spec["input"]["layout"] = "NHWC"; });
  refused("spec.preprocess.mean[1]", [](Json& spec) { spec["preprocess"]["mean"][1] = "grey"; });
  refused("spec.preprocess.mean", [](Json& spec) { spec["preprocess"]["mean"].push_back(0.5); });
  refused("spec.preprocess.std[0]", [](Json& spec) { spec["preprocess"]["std"][0] = 0; });
  refused("spec.preprocess.crop_height", [](Json& spec) { spec["preprocess"]["crop_height"] = 1 << 14; });
  refused("spec.preprocess.fill[0]", [](Json& spec) { spec["preprocess"]["fill"][0] = 256; });
  refused("'shortest' or 'squash' or 'longest'", [](Json& spec) { spec["preprocess"]["resize_rule"] = "fit"; });
  refused("disagree", [](Json& spec) { spec["preprocess"]["crop_height"] = 31; });
  refused("spec.labels[0]", [](Json& spec) { spec["labels"][0] = 1; });
  refused("without labels", [](Json& spec) { spec["labels"] = Json::array(); });
  refused("golden vector", [](Json& spec) { spec["labels"].push_back("weed"); });
  refused("spec.golden[0].cell", [](Json& spec) { spec["golden"][0]["cell"] = 0; });
  refused("spec.golden[0].seed", [](Json& spec) { spec["golden"][0]["seed"] = -1; });
  refused("spec.verification.checks[0].passed", [](Json& spec) { spec["verification"]["checks"][0]["passed"] = 1; });
  refused("spec.source.model_kwargs.depth",
          [](Json& spec) { spec["source"]["model_kwargs"]["depth"] = Json::object(); });
  refused("spec.saturation_free", [](Json& spec) { spec["saturation_free"] = 1; });
  refused("no version", [](Json& spec) { spec["version"] = "1"; });
  refused("newer", [](Json& spec) { spec["version"] = 3; });
  refused("older", [](Json& spec) { spec["version"] = 1; });
  refused("spec.extensions.note", [](Json& spec) { spec["extensions"] = {{"note", 1}}; });
  refused("newer", [](Json& spec) { spec["version"] = UINT64_MAX; });

  std::string text(100'000, '[');
  try {
    static_cast<void>(parse_spec(text));
    CHECK(false, "an endless list was accepted");
  } catch (const SpecError& error) {
    CHECK(std::string(error.what()).find("nested") != std::string::npos, error.what());
  }
  for (const std::string& broken : {std::string(), std::string("{"), std::string("[1]"), std::string("nan"),
                                    good.dump().substr(0, 200), std::string("{\"version\":1e999}")}) {
    bool thrown = false;
    try {
      static_cast<void>(parse_spec(broken));
    } catch (const SpecError&) {
      thrown = true;
    }
    CHECK(thrown, "accepted: " + broken);
  }
}

void test_optional_fields(Json data) {
  data["input"] = {{"height", 32}, {"width", 32}};
  data["preprocess"].erase("fill");
  for (const char* name : {"output", "precision", "golden"}) {
    data.erase(name);
  }
  data["verification"] = nullptr;
  const ModelSpec spec = parse_spec(data.dump());
  CHECK(spec.input.name == "image" && spec.output.name == "logits" && spec.checks.empty() && !spec.saturation_free,
        "defaults");
  data["saturation_free"] = true;
  CHECK(parse_spec(data.dump()).saturation_free, "weights that cannot saturate");
  data["extensions"] = {{"acme.note", {{"for", {"Jetson", 1, nullptr}}}}};
  CHECK(refusal(data).empty(), "what an extension says is skipped: " + refusal(data));
}

void test_record(Json data) {
  const auto allows = [&] { return parse_spec(data.dump()).allows("openvino", Precision::bf16); };
  Json check = data["verification"]["checks"][0];
  check.update({{"runtime", "openvino"}, {"precision", "bf16"}, {"inputs", "images"}, {"count", 16}, {"passed", true}});
  data["verification"]["checks"] = Json::array({check});
  CHECK(!allows(), "16 images are too few");
  data["verification"]["checks"].push_back(check);
  CHECK(allows(), "twice 16 are enough");
  check["inputs"] = "golden";
  check["passed"] = false;
  data["verification"]["checks"].push_back(check);
  CHECK(!allows(), "a check that failed forbids it");
}

void test_generator(const std::filesystem::path& folder) {
  const std::vector<float> expected = read_floats(folder / "generator.f32");
  CHECK(golden_input({7, 5}, 2, 3) == expected, "the generator differs from Python's");
}

void test_files(const std::filesystem::path& folder) {
  const auto problem = [](const std::string& path) -> std::string {
    try {
      static_cast<void>(read_spec(path));
    } catch (const ArtifactError& error) {
      return error.problem();
    }
    return {};
  };
  CHECK(problem("nowhere.onnx").find("no such file") == 0, "a missing file");
  CHECK(problem(folder.string()).find("is a directory") != std::string::npos, "a folder");
  CHECK(problem((folder / "specs.txt").string()).find("cannot tell") == 0, "another suffix");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_spec GOLDEN_FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  const auto text = read_file(folder / "tiny.json");
  const Json data = Json::parse(text.begin(), text.end());
  test_fields(read_spec((folder / "tiny.onnx").string()));
  test_fields(parse_spec(data.dump()));
  test_refusals(data);
  test_optional_fields(data);
  test_record(data);
  test_generator(folder);
  test_files(folder);
  return check_result();
}
