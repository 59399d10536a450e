// Threads that share out the items of a loop.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace vitrify::pixels {

// Any number of threads may call `each` at once, also from within an item: every caller works on its own items too, so
// that none of them waits for a worker that another one keeps busy.
class Workers {
 public:
  // `threads` at most, of which one is the caller's. The others start when there is something for them to do; where
  // the system has no more, fewer do it.
  explicit Workers(std::size_t threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Calls `work(i)` for every i below `count`, and returns when all are done. `work` must not throw.
  void each(std::size_t count, const std::function<void(std::size_t)>& work);

  // How many threads would take part in an `each` of `wanted` items that began now, the caller's included: fewer where
  // others are at work, or the system has no more.
  [[nodiscard]] std::size_t available(std::size_t wanted);

 private:
  struct Loop;
  void run();
  std::size_t idle(std::size_t wanted);

  const std::size_t most_;  // of `threads_`
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Loop>> loops_;
  std::size_t busy_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

// What item `index` gets of `threads` threads that are spread over `count` items: at least one.
[[nodiscard]] std::size_t part_of(std::size_t threads, std::size_t count, std::size_t index);

}  // namespace vitrify::pixels
