#include "self_test.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <system_error>

#include <nlohmann/json.hpp>

#include "engines/sha256.hpp"
#include "golden.hpp"
#include "spec/onnx_form.hpp"
#include "spec/storage.hpp"

#ifndef VITRIFY_VERSION
#error "CMake gives the version"
#endif

namespace vitrify::classifier {
namespace {

namespace fs = std::filesystem;

using Json = nlohmann::ordered_json;

std::string nanoseconds(const timespec& time) {
  return std::to_string(std::int64_t{time.tv_sec} * 1'000'000'000 + std::int64_t{time.tv_nsec});
}

std::string mark_of_file(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) {
    return {};
  }
  return std::to_string(found.st_dev) + ':' + std::to_string(found.st_ino) + ':' + std::to_string(found.st_size) + ':' +
         nanoseconds(found.st_mtim) + ':' + nanoseconds(found.st_ctim);
}

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

[[noreturn]] void refuse(const std::string& path, const ModelSpec& spec, const Computation& computation,
                         const GoldenReport& report) {
  const GoldenReport::Logit& worst = report.worst;
  std::string got = "golden vector " + std::to_string(worst.vector) + ", '" + spec.labels[worst.label] +
                    "': " + shown(worst.got) + ", off by " + shown(report.gate_use) + " times what is allowed";
  got += report.top1_agrees ? "" : "; the best labels differ";
  throw SelfTestError(
      path + " gives wrong answers in " + computation.engine + ' ' + computation.version + " (" +
          name_of(computation.precision) + (computation.dequantize ? ", dequantised" : "") + ") on " +
          computation.processor + (computation.instruction_sets.empty() ? "" : ", " + computation.instruction_sets) +
          (computation.gpu.empty() ? "" : ", with " + computation.gpu),
      got, shown(worst.expected),
      "if the file is damaged, copy or export it again; if not, this library computes it wrongly here: take another "
      "precision, runtime or version of it");
}

}  // namespace

std::string mark_of(const std::string& path) {
  // Beside an engine lies its manifest, which has its spec.
  const std::string manifest = mark_of_file(path + ".json");
  return mark_of_file(path) + (manifest.empty() ? "" : '+' + manifest);
}

std::string Computation::key() const {
  std::string text = "program=c++\nvitrify=" VITRIFY_VERSION "\n";
  const auto line = [&](const char* name, const std::string& value) { text += name + ('=' + value) + '\n'; };
  line("artifact", mark);
  line("engine", engine);
  line("version", version);
  line("precision", name_of(precision));
  line("dequantize", dequantize ? "true" : "false");
  line("processor", processor);
  line("instruction_sets", instruction_sets);
  line("gpu", gpu);
  return text;
}

fs::path Verdicts::file(const std::string& key) const {
  engines::Sha256 digest;
  digest.update(key.data(), key.size());
  return folder_ / (digest.finish() + ".json");
}

bool Verdicts::passed(const std::string& key) const {
  const auto text = folder_.empty() ? std::nullopt : spec::text_of(file(key).string());
  const Json verdict = text ? Json::parse(*text, nullptr, false) : Json();
  return verdict.is_object() && verdict.value("passed", Json()) == true && verdict.value("key", Json()) == key;
}

void Verdicts::keep(const std::string& key, const GoldenReport& report) const noexcept {
  try {
    if (folder_.empty()) {
      return;
    }
    fs::create_directories(folder_);
    static std::atomic<unsigned> number{0};
    const fs::path target = file(key);
    fs::path part = target;
    part += '.' + std::to_string(getpid()) + '-' + std::to_string(number++);
    const Json verdict{{"passed", true},
                       {"comparisons", report.comparisons},
                       {"max_absolute_error", report.max_absolute_error},
                       {"gate_use", report.gate_use},
                       {"key", key}};
    std::ofstream stream(part);
    stream << verdict.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
    stream.close();
    std::error_code failed;
    if (stream) {
      fs::rename(part, target, failed);
    }
    fs::remove(part, failed);  // where it is still there
  } catch (const std::exception&) {
    return;  // then the test is done again next time
  }
}

void test_itself(const std::string& path, const ModelSpec& spec, Engine& engine, Precision arithmetic, SelfTest mode,
                 const Computation& computation, const Verdicts& verdicts) {
  if (mode == SelfTest::never || (mode == SelfTest::automatic && spec.golden.empty())) {
    return;
  }
  const std::string key = computation.key();
  if (mode == SelfTest::automatic && verdicts.passed(key)) {
    return;
  }
  spec::require_sealed(path, spec.file_sha256);
  const GoldenReport report = compare_golden(spec, engine, arithmetic);
  if (!report.passed) {
    refuse(path, spec, computation, report);
  }
  // A file that was replaced meanwhile is not the one that passed.
  if (mark_of(path) == computation.mark) {
    verdicts.keep(key, report);
  }
}

}  // namespace vitrify::classifier
