// The manifest beside a TensorRT plan: what it says is read, a plan that is not its own is refused, and so is a machine
// that the engine was not built for.
//   test_manifest GOLDEN_FOLDER
//   test_manifest ENGINE          reads a pair that Python made
#include <fstream>
#include <functional>

#include <nlohmann/json.hpp>

#include "check.hpp"
#include "manifest.hpp"
#include "sha256.hpp"
#include "vitrify/error.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::engines;
using namespace vitrify::test;
using Json = nlohmann::ordered_json;

std::string digest_of(const std::string& text, std::size_t step) {
  Sha256 digest;
  for (std::size_t at = 0; at < text.size(); at += step) {
    const std::string part = text.substr(at, step);
    digest.update(part.data(), part.size());
  }
  return digest.finish();
}

void test_sha256() {
  // https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values
  CHECK(digest_of("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "no bytes");
  CHECK(digest_of("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
  CHECK(digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56) ==
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        "two blocks");
  const std::string million(1'000'000, 'a');
  for (const std::size_t step : {1U, 63U, 64U, 65U, 1'000'000U}) {
    CHECK(digest_of(million, step) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
          "a million letters, " + std::to_string(step) + " at a time");
  }
}

constexpr const char* kPlan = "manifest-test.engine";

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

Json manifest_of(const std::string& plan, const Json& spec) {
  return {{"version", 1},
          {"onnx", "m.onnx"},
          {"onnx_sha256", ""},
          {"plan_sha256", digest_of(plan, 64)},
          {"plan_bytes", plan.size()},
          {"spec", spec},
          {"flavour", "full"},
          {"tensorrt", "10.16.1.2"},
          {"versions", Json::object()},
          {"gpu", {{"name", "NVIDIA H100"}, {"compute_capability", "9.0"}, {"memory_bytes", 1}, {"driver", "13.0"}}},
          {"compute_capabilities", Json::array({"9.0"})},
          {"precision", "fp16"},
          {"config", {{"version_compatible", false}, {"hardware_compatible", "none"}, {"profiles", Json::array()}}},
          {"pinned", Json::array()},
          {"date", "2026-11-24"},
          {"build_seconds", 1.5},
          {"audit", Json::object()},
          {"verification", nullptr}};
}

// The problem with a manifest and the machine that it meets; empty where there is none.
std::string refusal(const Json& manifest, const Release& here, const Gpu& gpu) {
  write(std::string(kPlan) + ".json", manifest.dump());
  try {
    const Manifest read = read_manifest(kPlan);
    static_cast<void>(read_plan(kPlan, read));
    require_fit(kPlan, read, here, gpu);
  } catch (const EngineError& error) {
    return error.what();
  }
  return {};
}

void test_reading(const Json& good) {
  const Release here{false, "10.16.1.2"};
  const Gpu gpu{"NVIDIA H100", "9.0"};
  const auto refused = [&](const std::string& says, const std::function<void(Json&)>& change) {
    Json changed = good;
    change(changed);
    const std::string message = refusal(changed, here, gpu);
    CHECK(message.find(says) != std::string::npos, says + " is not in: " + message);
  };
  CHECK(refusal(good, here, gpu).empty(), refusal(good, here, gpu));
  refused("another version", [](Json& manifest) { manifest["version"] = 2; });
  refused("another version", [](Json& manifest) { manifest.erase("version"); });
  refused("another version", [](Json& manifest) { manifest = Json::array(); });
  refused("no plan_sha256", [](Json& manifest) { manifest.erase("plan_sha256"); });
  refused("unknown extra", [](Json& manifest) { manifest["extra"] = 1; });
  refused("spec.labels", [](Json& manifest) { manifest["spec"]["labels"] = "rose"; });
  refused("manifest.flavour", [](Json& manifest) { manifest["flavour"] = "mild"; });
  refused("manifest.config", [](Json& manifest) { manifest["config"].erase("hardware_compatible"); });
  refused("other bytes", [](Json& manifest) { manifest["plan_sha256"] = std::string(64, '0'); });
  refused("bytes", [](Json& manifest) { manifest["plan_bytes"] = 3; });
  write(std::string(kPlan) + ".json", "{");
  bool thrown = false;
  try {
    static_cast<void>(read_manifest(kPlan));
  } catch (const EngineError&) {
    thrown = true;
  }
  CHECK(thrown, "half a manifest was accepted");
  std::remove((std::string(kPlan) + ".json").c_str());
  thrown = false;
  try {
    static_cast<void>(read_manifest(kPlan));
  } catch (const EngineError& error) {
    thrown = std::string(error.what()).find("has no manifest") != std::string::npos;
  }
  CHECK(thrown, "a plan without a manifest");
}

void test_fit(const Json& good) {
  const Gpu h100{"NVIDIA H100", "9.0"};
  const Gpu a100{"NVIDIA A100", "8.0"};
  const Gpu h200{"NVIDIA H200", "9.0"};
  const Gpu turing{"NVIDIA T4", "7.5"};
  const Release same{false, "10.16.1.2"};
  const Release later{false, "10.17.0.1"};
  const auto fits = [&](const Release& here, const Gpu& gpu, const std::function<void(Json&)>& change) {
    Json changed = good;
    change(changed);
    return refusal(changed, here, gpu).empty();
  };
  const auto as_it_is = [](Json& /*manifest*/) {};
  CHECK(fits(same, h100, as_it_is) && !fits(later, h100, as_it_is), "the same version alone");
  CHECK(!fits(same, a100, as_it_is) && !fits(same, h200, as_it_is), "the same GPU alone");
  CHECK(!fits({true, "10.16.1.2"}, h100, as_it_is), "another product");
  const auto lenient = [](Json& manifest) { manifest["config"]["version_compatible"] = true; };
  CHECK(fits(later, h100, lenient) && !fits({false, "10.15.9.9"}, h100, lenient), "later minor versions");
  CHECK(!fits({false, "11.0.0.1"}, h100, lenient), "no later major version");
  const auto ampere = [](Json& manifest) { manifest["config"]["hardware_compatible"] = "ampere+"; };
  CHECK(fits(same, a100, ampere) && !fits(same, turing, ampere), "Ampere and newer");
  const auto capability = [](Json& manifest) { manifest["config"]["hardware_compatible"] = "same-compute-capability"; };
  CHECK(fits(same, h200, capability) && !fits(same, a100, capability), "the same compute capability");
  const auto rtx = [](Json& manifest) {
    manifest["flavour"] = "rtx";
    manifest["tensorrt"] = "1.7.1.1";
    manifest["gpu"] = nullptr;
    manifest["compute_capabilities"] = Json::array({"8.9", "12.0"});
  };
  CHECK(fits({true, "1.7.1.1"}, {"RTX 5090", "12.0"}, rtx) && !fits({true, "1.7.1.1"}, h100, rtx), "compiled for");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_manifest GOLDEN_FOLDER | ENGINE\n");
    return 2;
  }
  const std::filesystem::path given = arguments[1];
  if (given.extension() == ".engine") {
    const Manifest manifest = read_manifest(given.string());
    CHECK(read_plan(given.string(), manifest).size() == manifest.plan_bytes, "the plan");
    std::printf("%s %s, %zu labels\n", manifest.built_by.rtx ? "TensorRT-RTX" : "TensorRT",
                manifest.built_by.version.c_str(), manifest.spec.labels.size());
    return check_result();
  }
  test_sha256();
  const auto text = read_file(given / "tiny.json");
  const std::string plan = "not really a plan";
  write(kPlan, plan);
  const Json good = manifest_of(plan, Json::parse(text.begin(), text.end()));
  test_reading(good);
  test_fit(good);
  std::remove(kPlan);
  std::remove((std::string(kPlan) + ".json").c_str());
  return check_result();
}
