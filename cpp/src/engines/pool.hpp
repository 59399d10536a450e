// What only one inference at a time may use: inference requests, GPU workers. Any number of threads take turns.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace vitrify::engines {

template <typename Item>
class Pool {
 public:
  void add(Item item) { idle_.push_back(std::move(item)); }

  // An item, for as long as this lives; waits until one is idle.
  class Lease {
   public:
    explicit Lease(Pool& pool) : pool_(&pool), item_(pool.take()) {}
    ~Lease() { pool_->give_back(std::move(item_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] Item& item() { return item_; }

   private:
    Pool* pool_;
    Item item_;
  };

 private:
  Item take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return !idle_.empty(); });
    Item item = std::move(idle_.back());
    idle_.pop_back();
    return item;
  }

  void give_back(Item item) {
    {
      const std::lock_guard lock(mutex_);
      idle_.push_back(std::move(item));  // into capacity that it had before: cannot throw
    }
    returned_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Item> idle_;
};

}  // namespace vitrify::engines
