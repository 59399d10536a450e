#include "vitrify/spec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "parse.hpp"

namespace vitrify {
namespace {

using spec::Fields;
using spec::Json;
using spec::precision_of;
using spec::Value;

// The golden generator packs a row and a column into 14 bits each.
constexpr std::int64_t kMaxSide = (1 << 14) - 1;
constexpr std::int64_t kMaxWhole = INT64_MAX;

int side_of(const Value& value) { return static_cast<int>(value.whole(1, kMaxSide)); }

float float_of(const Value& value) {
  const auto number = static_cast<float>(value.number());
  return std::isfinite(number) ? number : (value.refuse("a number that float32 holds"), number);
}

template <typename Item>
std::array<Item, 3> triple_of(const std::vector<Item>& items) {
  return {items[0], items[1], items[2]};
}

InputSpec input_of(const Value& value, Size& size) {
  const Fields fields(value, {"height", "width"}, {"name", "dtype", "layout", "channels"});
  InputSpec input;
  input.name = fields.text_or("name", "image");
  if (fields.has("dtype")) {
    input.dtype =
        fields["dtype"].choice<ElementType>({{"float32", ElementType::float32}, {"float16", ElementType::float16}});
  }
  if (fields.has("layout")) {
    static_cast<void>(fields["layout"].choice<int>({{"NCHW", 0}}));
  }
  if (fields.has("channels")) {
    static_cast<void>(fields["channels"].whole(3, 3));
  }
  size = {side_of(fields["width"]), side_of(fields["height"])};
  return input;
}

Preprocess preprocess_of(const Value& value) {
  const Fields fields(
      value,
      {"resize_rule", "resize_height", "resize_width", "crop_height", "crop_width", "interpolation", "mean", "std"},
      {"fill"});
  Preprocess result;
  result.resize_rule = fields["resize_rule"].choice<ResizeRule>(
      {{"shortest", ResizeRule::shortest}, {"squash", ResizeRule::squash}, {"longest", ResizeRule::longest}});
  result.resize_box = {side_of(fields["resize_width"]), side_of(fields["resize_height"])};
  result.crop = {side_of(fields["crop_width"]), side_of(fields["crop_height"])};
  result.interpolation = fields["interpolation"].choice<Interpolation>({{"nearest", Interpolation::nearest},
                                                                        {"box", Interpolation::box},
                                                                        {"bilinear", Interpolation::bilinear},
                                                                        {"hamming", Interpolation::hamming},
                                                                        {"bicubic", Interpolation::bicubic},
                                                                        {"lanczos", Interpolation::lanczos}});
  result.mean = triple_of(fields["mean"].list(float_of, 3));
  result.std = triple_of(fields["std"].list(
      [](const Value& item) {
        const float std = float_of(item);
        return std > 0 ? std : (item.refuse("a number above 0 that float32 holds"), std);
      },
      3));
  if (fields.has("fill")) {
    result.fill = triple_of(
        fields["fill"].list([](const Value& item) { return static_cast<std::uint8_t>(item.whole(0, 255)); }, 3));
  }
  return result;
}

OutputSpec output_of(const Value& value) {
  const Fields fields(value, {}, {"name", "kind", "task"});
  OutputSpec output;
  output.name = fields.text_or("name", "logits");
  if (fields.has("kind")) {
    output.kind = fields["kind"].choice<OutputKind>(
        {{"logits", OutputKind::logits}, {"probabilities", OutputKind::probabilities}});
  }
  if (fields.has("task")) {
    output.task =
        fields["task"].choice<Task>({{"single-label", Task::single_label}, {"multi-label", Task::multi_label}});
  }
  return output;
}

// Arguments of the Python constructor, which C++ has no use for, but whose types are part of the format.
void check_model_argument(const Value& value) {
  const Json& data = value.json();
  if (data.is_array()) {
    static_cast<void>(value.list([](const Value& item) { return item.whole(INT64_MIN, INT64_MAX); }));
  } else if (data.is_object()) {
    value.refuse("a number, a bool, a str, a list of whole numbers or null");
  }
}

Source source_of(const Value& value) {
  const Fields fields(value, {"architecture", "model_kwargs"},
                      {"checkpoint", "checkpoint_sha256", "dialect", "created_by"});
  fields["model_kwargs"].each([](const std::string& /*name*/, const Value& item) { check_model_argument(item); });
  return {fields["architecture"].text(), fields.text_or("checkpoint"), fields.text_or("checkpoint_sha256"),
          fields.text_or("dialect"), fields.text_or("created_by")};
}

GoldenVector golden_of(const Value& value) {
  const Fields fields(value, {"seed", "cell", "logits"});
  return {static_cast<std::uint32_t>(fields["seed"].whole(0, UINT32_MAX)),
          static_cast<std::uint32_t>(fields["cell"].whole(1, kMaxSide)), fields["logits"].list(float_of)};
}

Check check_of(const Value& value) {
  const Fields fields(value,
                      {"runtime", "precision", "inputs", "batch", "count", "max_absolute_error", "max_relative_error",
                       "mean_absolute_error", "gate_use", "top1_agreement", "gate", "passed"});
  for (const char* name :
       {"max_absolute_error", "max_relative_error", "mean_absolute_error", "gate_use", "top1_agreement"}) {
    static_cast<void>(fields[name].number());
  }
  static_cast<void>(fields["batch"].whole(INT64_MIN, kMaxWhole));
  const Fields gate(fields["gate"], {"absolute", "relative", "top1_agreement"});
  for (const char* name : {"absolute", "relative", "top1_agreement"}) {
    static_cast<void>(gate[name].number());
  }
  return {fields["runtime"].text(), precision_of(fields["precision"]),
          fields["inputs"].choice<bool>({{"golden", false}, {"random", false}, {"images", true}}),
          fields["count"].whole(INT64_MIN, kMaxWhole), fields["passed"].flag()};
}

std::vector<Check> checks_of(const Value& value) {
  if (value.is_null()) {
    return {};
  }
  const Fields fields(value, {"date", "reference", "machine", "versions", "checks"});
  for (const char* name : {"date", "reference", "machine"}) {
    static_cast<void>(fields[name].text());
  }
  fields["versions"].each([](const std::string& /*name*/, const Value& item) { static_cast<void>(item.text()); });
  return fields["checks"].list(check_of);
}

// What an extension says is for whoever knows it; that it has an owner is part of the format.
void check_extension(const std::string& name, const Value& value) {
  bool starts = true;  // at the first character of a part
  bool known = true;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    known = known && (plain || (c == '.' && !starts));
    starts = c == '.';
  }
  if (!known || starts || name.find('.') == std::string::npos) {
    value.refuse("a name of lower case such as acme.note");
  }
}

void check_version(const Json& data) {
  const bool numbered = data.is_object() && data.contains("version") && data["version"].is_number_unsigned();
  const auto version = numbered ? data["version"].get<std::uint64_t>() : 0;
  if (version == 0) {
    throw SpecError("the model spec has no version", {}, std::to_string(kSpecVersion));
  }
  if (version != kSpecVersion) {
    const bool newer = version > kSpecVersion;
    throw SpecVersionError(std::string("the model spec is ") + (newer ? "newer" : "older") + " than this vitrify",
                           "version " + std::to_string(version), "version " + std::to_string(kSpecVersion),
                           newer ? "build a newer vitrify" : "export the artifact again");
  }
}

}  // namespace

const char* name_of(Precision precision) noexcept {
  constexpr const char* names[] = {"fp32", "bf16", "fp16", "int8", "fp8"};
  return names[static_cast<std::size_t>(precision)];
}

bool ModelSpec::allows(std::string_view runtime, Precision wanted) const noexcept {
  std::int64_t seen = 0;
  for (const Check& check : checks) {
    if (check.runtime == runtime && check.precision == wanted) {
      if (!check.passed) {
        return false;
      }
      // Clamped, so that no count in a file overflows the sum.
      seen += check.on_images ? std::clamp<std::int64_t>(check.count, 0, kMinImages) : 0;
    }
  }
  return seen >= kMinImages;
}

Precision spec::precision_of(const Value& value) {
  return value.choice<Precision>({{"fp32", Precision::fp32},
                                  {"bf16", Precision::bf16},
                                  {"fp16", Precision::fp16},
                                  {"int8", Precision::int8},
                                  {"fp8", Precision::fp8}});
}

Json spec::json_of(std::string_view text) {
  // Far more than a spec has: what walks a document is recursive, and a hostile file must not choose how deep.
  constexpr int deepest = 16;
  const auto shallow = [](int depth, Json::parse_event_t /*event*/, Json& /*parsed*/) {
    if (depth > deepest) {
      throw SpecError("the model spec is nested too deeply", {}, "at most " + std::to_string(deepest) + " levels");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), shallow);
  } catch (const Json::exception& error) {
    // The message quotes what was read, which may be megabytes.
    throw SpecError("the model spec is no JSON", std::string(error.what()).substr(0, 120), {},
                    "export the artifact again");
  }
}

ModelSpec spec::spec_of(const Value& value) {
  check_version(value.json());
  const Fields fields(
      value, {"version", "input", "preprocess", "labels", "source"},
      {"output", "precision", "saturation_free", "golden", "verification", "file_sha256", "extensions"});
  ModelSpec result;
  Size input_size;
  result.input = input_of(fields["input"], input_size);
  result.preprocess = preprocess_of(fields["preprocess"]);
  if (fields.has("output")) {
    result.output = output_of(fields["output"]);
  }
  result.labels = fields["labels"].list([](const Value& item) { return item.text(); });
  result.source = source_of(fields["source"]);
  if (fields.has("precision")) {
    result.precision = precision_of(fields["precision"]);
  }
  if (fields.has("saturation_free")) {
    result.saturation_free = fields["saturation_free"].flag();
  }
  if (fields.has("golden")) {
    result.golden = fields["golden"].list(golden_of);
  }
  if (fields.has("verification")) {
    result.checks = checks_of(fields["verification"]);
  }

  result.file_sha256 = fields.text_or("file_sha256");
  if (fields.has("extensions")) {
    fields["extensions"].each([](const std::string& name, const Value& item) { check_extension(name, item); });
  }

  const Size crop = result.preprocess.crop;
  if (crop.width != input_size.width || crop.height != input_size.height) {
    throw SpecError("preprocessing and input disagree",
                    "crop " + std::to_string(crop.height) + " x " + std::to_string(crop.width),
                    std::to_string(input_size.height) + " x " + std::to_string(input_size.width));
  }
  if (result.labels.empty()) {
    throw SpecError("a model without labels", "0 labels", "one name a class");
  }
  for (const GoldenVector& vector : result.golden) {
    if (vector.logits.size() != result.labels.size()) {
      throw SpecError("a golden vector and the labels disagree", std::to_string(vector.logits.size()) + " logits",
                      std::to_string(result.labels.size()) + ", one a label");
    }
  }
  return result;
}

ModelSpec parse_spec(std::string_view json) { return spec::spec_of(Value(spec::json_of(json), "spec")); }

}  // namespace vitrify
