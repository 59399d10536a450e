/* What libvitrify.so shows to the outside; everything else stays hidden. */
#ifndef VITRIFY_EXPORT_H
#define VITRIFY_EXPORT_H

#if defined(__GNUC__)
#define VITRIFY_API __attribute__((visibility("default")))
#else
#define VITRIFY_API
#endif

#endif
