/* The C interface of libvitrify, for every language that can call C.
 *
 *   vitrify_classifier* classifier = NULL;
 *   vitrify_score best;
 *   if (vitrify_load("flowers.onnx", NULL, &classifier) == VITRIFY_OK &&
 *       vitrify_classify_file(classifier, "tulip.jpg", &best, 1) == VITRIFY_OK) {
 *     printf("%s %f\n", vitrify_label(classifier, best.index), best.probability);
 *   } else {
 *     puts(vitrify_last_error());
 *   }
 *   vitrify_free(classifier);
 *
 * A classifier may be used from many threads at once, in the process that loaded it: after fork(), the child has to
 * load its own. One that was freed, or that another process loaded, is refused with VITRIFY_BAD_ARGUMENT. Labels are
 * UTF-8; a message may quote other bytes of a file. No function takes ownership of what it is given.
 */
#ifndef VITRIFY_VITRIFY_H
#define VITRIFY_VITRIFY_H

#include <stddef.h>
#include <stdint.h>

#include "vitrify/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum vitrify_status {
  VITRIFY_OK = 0,
  VITRIFY_GATE_FAILED = 1,    /* vitrify_load, vitrify_verify: not the answers of the model that was exported */
  VITRIFY_BAD_ARGUMENT = 2,   /* a null pointer, a size that cannot be, or a classifier that is not open here */
  VITRIFY_BAD_OPTION = 3,     /* an option's value, or one that the artifact contradicts */
  VITRIFY_BAD_IMAGE = 4,      /* bytes that are no readable image */
  VITRIFY_BAD_ARTIFACT = 5,   /* no such file, no artifact, or one that this processor or GPU cannot run */
  VITRIFY_BAD_SPEC = 6,       /* no model spec, a damaged one or a newer one */
  VITRIFY_RUNTIME_FAILED = 7, /* the engine refused the model or a batch, or gave no finite numbers */
  VITRIFY_FAILED = 8          /* anything else, such as too little memory */
} vitrify_status;

typedef struct vitrify_classifier vitrify_classifier;

/* Zeroes and nulls stand for the defaults: see ClassifierOptions. A later version adds fields at the end; `struct_size`
 * tells it how many there are: set it to sizeof(vitrify_options). */
typedef struct vitrify_options {
  size_t struct_size;
  const char* runtime;   /* "auto", "openvino" */
  const char* precision; /* "auto", "bf16", "fp32", which runs an int8 artifact dequantised */
  const char* cache_folder;
  int32_t threads;
  int32_t streams;
  const char* self_test; /* "auto", once on this machine; "always", "never" */
  /* What an encoded image may ask for: see DecodeLimits. */
  int64_t max_bytes;
  int64_t max_pixels;
  int64_t max_ratio;
  int64_t max_memory;
  int64_t max_scan_pixels;
} vitrify_options;

typedef struct vitrify_score {
  int32_t index; /* of the label */
  double probability;
} vitrify_score;

/* The message of this thread's last call that did not return VITRIFY_OK; empty before one. */
VITRIFY_API const char* vitrify_last_error(void);
VITRIFY_API const char* vitrify_version(void);

/* `options` may be null. Once on a machine the golden logits are computed, and VITRIFY_GATE_FAILED says that they are
 * wrong here. On failure `*out` is null. */
VITRIFY_API vitrify_status vitrify_load(const char* path, const vitrify_options* options, vitrify_classifier** out);
/* Calls that are under way end first. Does nothing for null and for what is not open here. */
VITRIFY_API void vitrify_free(vitrify_classifier* classifier);

/* Labels, and the input's size in pixels. A label's text lives as long as the classifier; null for a wrong index. */
VITRIFY_API int32_t vitrify_label_count(const vitrify_classifier* classifier);
VITRIFY_API const char* vitrify_label(const vitrify_classifier* classifier, int32_t index);
VITRIFY_API void vitrify_input_size(const vitrify_classifier* classifier, int32_t* height, int32_t* width);

/* One image to the `count` most probable labels, best first. `count` must not exceed the number of labels. */
VITRIFY_API vitrify_status vitrify_classify_file(const vitrify_classifier* classifier, const char* path,
                                                 vitrify_score* scores, int32_t count);
VITRIFY_API vitrify_status vitrify_classify_encoded(const vitrify_classifier* classifier, const uint8_t* data,
                                                    size_t size, vitrify_score* scores, int32_t count);
/* `rgb` is [height, width, 3], 8 bits each, rows without padding. */
VITRIFY_API vitrify_status vitrify_classify_rgb(const vitrify_classifier* classifier, const uint8_t* rgb,
                                                int32_t height, int32_t width, vitrify_score* scores, int32_t count);

/* An encoded image to its tensor, [3, height, width] float32; and tensors [count, 3, height, width] to logits
 * [count, labels]. */
VITRIFY_API vitrify_status vitrify_preprocess_encoded(const vitrify_classifier* classifier, const uint8_t* data,
                                                      size_t size, float* tensor);
VITRIFY_API vitrify_status vitrify_infer(const vitrify_classifier* classifier, const float* tensors, size_t count,
                                         float* logits);

/* VITRIFY_OK where this still is the model that was exported, VITRIFY_GATE_FAILED where it is not. The largest error of
 * a golden logit goes to `max_absolute_error`, which may be null. */
VITRIFY_API vitrify_status vitrify_verify(const vitrify_classifier* classifier, double* max_absolute_error);

#ifdef __cplusplus
}
#endif

#endif
