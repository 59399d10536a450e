#include "workers.hpp"

#include <algorithm>
#include <exception>
#include <utility>

namespace vitrify::pixels {

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

Workers::Workers(std::size_t threads) : most_(std::max<std::size_t>(threads, 1) - 1) {}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

// Threads without work, up to `wanted` of them, started where they have to be. The lock is held.
std::size_t Workers::idle(std::size_t wanted) {
  const std::size_t promised = busy_ + loops_.size();
  try {
    while (threads_.size() < std::min(most_, promised + wanted)) {
      threads_.emplace_back([this] { run(); });
    }
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // No more threads to be had: those that run, and the callers, do the work.
  }
  return threads_.size() > promised ? std::min(wanted, threads_.size() - promised) : 0;
}

std::size_t Workers::available(std::size_t wanted) {
  const std::lock_guard lock(mutex_);
  return 1 + idle(std::max<std::size_t>(wanted, 1) - 1);
}

void Workers::each(std::size_t count, const std::function<void(std::size_t)>& work) {
  const auto loop = std::make_shared<Loop>(count, work);
  std::size_t helpers = 0;
  if (count > 1) {
    const std::lock_guard lock(mutex_);
    idle(count - 1);
    // Those that are busy now may be free before the loop is done.
    helpers = std::min(count - 1, threads_.size());
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
    ++busy_;
    lock.unlock();
    loop->take_part();
    lock.lock();
    --busy_;
  }
}

std::size_t part_of(std::size_t threads, std::size_t count, std::size_t index) {
  return std::max<std::size_t>(1, threads / count + (index < threads % count ? 1 : 0));
}

}  // namespace vitrify::pixels
