// Prints the best five labels of an image.
#include <cstdio>
#include <exception>

#include <vitrify/classifier.hpp>

int main(int count, char** texts) {
  if (count != 3) {
    std::fprintf(stderr, "usage: classify MODEL IMAGE\n");
    return 2;
  }
  try {
    const auto classifier = vitrify::Classifier::load(texts[1]);
    for (const auto& score : classifier.classify(vitrify::ImageSource::file(texts[2])).top) {
      std::printf("%s  %s  %.4f\n", texts[2], score.label.c_str(), score.probability);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
