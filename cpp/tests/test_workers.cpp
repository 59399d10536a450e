// Threads that share out the items of a loop, and rows that are shared out to them.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "check.hpp"
#include "shares.hpp"
#include "workers.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;
using pixels::Range;

// Shares cover the rows in order, end at the same time, and are one where little is to be won.
void test_sharing_out() {
  std::mt19937 engine(3);  // the same everywhere; distributions are not
  const auto between = [&](int least, int most) {
    return least + static_cast<int>(engine() % static_cast<unsigned>(most - least + 1));
  };
  for (int i = 0; i < 2000; ++i) {
    const Range rows = {between(0, 99), between(100, 5100)};
    const double decode = between(1, 20'000);
    const double skip = between(1, 10) == 1 ? 0 : decode * between(0, 120) / 100;
    const auto most = static_cast<std::size_t>(between(1, 20));
    const auto shares = pixels::share_out(rows, {decode, skip}, most);
    CHECK(!shares.empty() && shares.size() <= most, "as many shares as threads at most");
    CHECK(shares.front().begin == rows.begin && shares.back().end == rows.end, "all rows");
    double least = 1e300;
    double longest = 0;
    for (std::size_t k = 0; k < shares.size(); ++k) {
      CHECK(shares[k].size() > 0, "no share is empty");
      CHECK(k == 0 || shares[k].begin == shares[k - 1].end, "one share behind the other");
      const double time = shares[k].begin * std::min(skip, decode) + shares[k].size() * decode;
      least = std::min(least, time);
      longest = std::max(longest, time);
    }
    CHECK(longest - least <= 2.5 * decode, "all end at the same time");
  }
  CHECK(pixels::share_out({0, 3000}, {}, 8).size() == 1, "what has no cost");
  CHECK(pixels::share_out({0, 3000}, {13'000, 13'000}, 8).size() == 1, "skipping that saves nothing");
  CHECK(pixels::share_out({0, 100}, {1'000, 0}, 8).size() == 1, "a small image");
  CHECK(pixels::share_out({0, 3000}, {13'000, 7'800}, 2).size() == 2, "12 megapixels");
}

void test_workers() {
  pixels::Workers workers(4);
  CHECK(workers.available(1) == 1 && workers.available(3) == 3 && workers.available(9) == 4, "all are idle");
  std::atomic<int> done{0};
  workers.each(3, [&](std::size_t i) {
    // Loops within a loop, with workers that are all busy or none.
    CHECK(workers.available(9) >= 1 && workers.available(9) <= 4, "some may be idle");
    workers.each(i + 2, [&](std::size_t) { ++done; });
  });
  CHECK(done == 2 + 3 + 4, "every item once");
  pixels::Workers alone(0);
  CHECK(alone.available(5) == 1, "the caller is always there");
  CHECK(pixels::part_of(8, 3, 0) == 3 && pixels::part_of(8, 3, 1) == 3 && pixels::part_of(8, 3, 2) == 2, "8 over 3");
  CHECK(pixels::part_of(2, 5, 0) == 1 && pixels::part_of(2, 5, 4) == 1, "2 over 5");
}

#ifdef __GLIBC__
// Where no thread can be started, the caller does everything.
void test_no_more_threads() {
  pthread_attr_t before;
  pthread_attr_t greedy;
  CHECK(pthread_getattr_default_np(&before) == 0 && pthread_getattr_default_np(&greedy) == 0, "attributes of threads");
  CHECK(pthread_attr_setstacksize(&greedy, std::size_t{1} << 46) == 0, "a stack that no machine has");
  CHECK(pthread_setattr_default_np(&greedy) == 0, "for every thread");
  pixels::Workers workers(8);
  CHECK(workers.available(8) == 1, "there is no other thread");
  std::atomic<int> done{0};
  workers.each(20, [&](std::size_t) { ++done; });
  CHECK(done == 20, "every item once");
  CHECK(pthread_setattr_default_np(&before) == 0, "as it was");
  CHECK(workers.available(3) == 3, "and threads once there are some");
}
#endif

}  // namespace

int main() {
  test_sharing_out();
  test_workers();
#ifdef __GLIBC__
  test_no_more_threads();
#endif
  return check_result();
}
