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

namespace vitrify::classifier {

// Any number of threads may call `each` at once: every caller works on its own items too, so that none of them waits
// for a worker that another one keeps busy.
class Workers {
 public:
  // `threads` in all, of which one is the caller's. Throws std::system_error where the system has no more.
  explicit Workers(std::size_t threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Calls `work(i)` for every i below `count`, and returns when all are done. `work` must not throw.
  void each(std::size_t count, const std::function<void(std::size_t)>& work);

 private:
  struct Loop;
  void run();
  void close();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Loop>> loops_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace vitrify::classifier
