#include "workers.hpp"

#include <algorithm>

namespace vitrify::classifier {

struct Workers::Loop {
  Loop(std::size_t items, const std::function<void(std::size_t)>& body) : count(items), work(&body) {}

  const std::size_t count;
  // The caller's, which waits until the last item is done; a worker that comes later finds no item and does not look.
  const std::function<void(std::size_t)>* const work;
  std::mutex mutex;
  std::condition_variable finished;
  std::size_t next = 0;
  std::size_t done = 0;

  void take_part() {
    std::unique_lock lock(mutex);
    while (next < count) {
      const std::size_t item = next++;
      lock.unlock();
      (*work)(item);
      lock.lock();
      if (++done == count) {
        finished.notify_all();
      }
    }
  }
};

Workers::Workers(std::size_t threads) {
  try {
    threads_.reserve(threads);
    for (std::size_t i = 1; i < threads; ++i) {
      threads_.emplace_back([this] { run(); });
    }
  } catch (...) {
    close();
    throw;
  }
}

Workers::~Workers() { close(); }

void Workers::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void Workers::each(std::size_t count, const std::function<void(std::size_t)>& work) {
  const auto loop = std::make_shared<Loop>(count, work);
  const std::size_t helpers = count == 0 ? 0 : std::min(count - 1, threads_.size());
  {
    const std::lock_guard lock(mutex_);
    loops_.insert(loops_.end(), helpers, loop);
  }
  for (std::size_t i = 0; i < helpers; ++i) {
    changed_.notify_one();
  }
  loop->take_part();
  std::unique_lock lock(loop->mutex);
  loop->finished.wait(lock, [&] { return loop->done == count; });
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || !loops_.empty(); });
    if (loops_.empty()) {
      return;
    }
    const std::shared_ptr<Loop> loop = std::move(loops_.front());
    loops_.pop_front();
    lock.unlock();
    loop->take_part();
    lock.lock();
  }
}

}  // namespace vitrify::classifier
