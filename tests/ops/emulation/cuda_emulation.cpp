#include "cuda_emulation.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace emulation {
namespace {

constexpr int kWarp = 32;
constexpr size_t kStack = 256 * 1024;

struct Copy {
  void* to;
  const void* from;
  int valid;
};

enum class State { ready, at_barrier, in_warp, done };

struct Fiber {
  State state;
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> open;
  jmp_buf resume;
  ucontext_t context;
  bool started;
};

struct Warp {
  WarpOperation operation;
  void* lanes[kWarp];
  int arrived;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<int> order;
  int at_barrier = 0, done = 0;
  unsigned index = 0;
};

Block block;
int current = 0;
unsigned grid = 0;
int order = 0;
unsigned char* shared = nullptr;
const std::function<void()>* work = nullptr;
jmp_buf scheduler;
std::vector<unsigned char*> stacks;

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "CUDA emulation: %s (block %u, thread %d)\n", what, block.index, current);
  abort();
}

// glibc's swapcontext makes a system call a switch; _setjmp and _longjmp between contexts made once do not.
void pause() {
  if (_setjmp(block.fibers[current].resume) == 0) _longjmp(scheduler, 1);
}

void perform(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.valid);
  memset(static_cast<char*>(copy.to) + copy.valid, 0, 16 - copy.valid);
}

void entry() {
  (*work)();
  Fiber& fiber = block.fibers[current];
  for (const auto& group : fiber.groups)
    if (!group.empty()) fail("a thread ends with copies that it never waited for");
  fiber.state = State::done;
  ++block.done;
  _longjmp(scheduler, 1);
}

void start(Fiber& fiber, int id) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stacks[id];
  fiber.context.uc_stack.ss_size = kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
  fiber.started = true;
  setcontext(&fiber.context);
}

void run_block(int threads) {
  block.at_barrier = block.done = 0;
  for (Fiber& fiber : block.fibers) {
    fiber.state = State::ready;
    fiber.groups.clear();
    fiber.open.clear();
    fiber.started = false;
  }
  for (Warp& warp : block.warps) warp.arrived = 0;
  volatile bool progress = true;  // volatile: changed between _setjmp and _longjmp
  while (block.done < threads) {
    if (!progress) fail("threads wait for partners that never come");
    progress = false;
    for (volatile size_t i = 0; i < block.order.size(); i = i + 1) {
      const int id = block.order[i];
      if (block.fibers[id].state != State::ready) continue;
      progress = true;
      current = id;
      if (_setjmp(scheduler) == 0) {
        if (block.fibers[id].started) _longjmp(block.fibers[id].resume, 1);
        start(block.fibers[id], id);
      }
    }
  }
}

}  // namespace

Index thread_index() { return {static_cast<unsigned>(current)}; }
Index block_index() { return {block.index}; }
Index block_size() { return {static_cast<unsigned>(block.fibers.size())}; }
Index grid_size() { return {grid}; }
unsigned char* shared_memory() { return shared; }
void set_order(int which) { order = which; }

void block_barrier() {
  if (block.done > 0) fail("a barrier after a thread of the block has ended");
  Fiber& fiber = block.fibers[current];
  if (++block.at_barrier == static_cast<int>(block.fibers.size())) {
    block.at_barrier = 0;
    for (Fiber& other : block.fibers)
      if (other.state == State::at_barrier) other.state = State::ready;
    return;
  }
  fiber.state = State::at_barrier;
  pause();
}

void warp_collective(WarpOperation operation, void* mine) {
  Warp& warp = block.warps[current / kWarp];
  if (warp.arrived > 0 && warp.operation != operation) fail("the lanes of a warp meet in different operations");
  warp.operation = operation;
  warp.lanes[current % kWarp] = mine;
  if (++warp.arrived == kWarp) {
    operation(warp.lanes);
    warp.arrived = 0;
    for (int l = 0; l < kWarp; ++l) {
      Fiber& other = block.fibers[current / kWarp * kWarp + l];
      if (other.state == State::in_warp) other.state = State::ready;
    }
    return;
  }
  block.fibers[current].state = State::in_warp;
  pause();
}

void copy_later(void* to, const void* from, int valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0) fail("a background copy to an address that is no multiple of 16");
  if (valid > 0 && reinterpret_cast<uintptr_t>(from) % 16 != 0)
    fail("a background copy from an address that is no multiple of 16");
  if (valid < 0 || valid > 16) fail("a background copy of less than 0 or more than 16 bytes");
  block.fibers[current].open.push_back({to, from, valid});
}

void copies_commit() {
  Fiber& fiber = block.fibers[current];
  fiber.groups.push_back(std::move(fiber.open));
  fiber.open.clear();
}

void copies_wait(int pending) {
  auto& groups = block.fibers[current].groups;
  while (static_cast<int>(groups.size()) > pending) {
    for (const Copy& copy : groups.front()) perform(copy);
    groups.erase(groups.begin());
  }
}

void run_grid(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body) {
  if (threads % kWarp != 0) fail("a block of no whole number of warps");
  if (shared_bytes > 227 * 1024) fail("more shared memory than a block may have");
  while (static_cast<int>(stacks.size()) < threads) {
    void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) fail("no memory for a stack");
    stacks.push_back(static_cast<unsigned char*>(stack));
  }
  // Shared memory ends (to 128 bytes, its alignment) where a page begins that may not be touched.
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t rounded = (shared_bytes + 127) / 128 * 128, span = (rounded + page - 1) / page * page;
  void* memory = mmap(nullptr, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("no memory for shared memory");
  mprotect(static_cast<char*>(memory) + span, page, PROT_NONE);
  shared = static_cast<unsigned char*>(memory) + span - rounded;
  work = &body;
  grid = static_cast<unsigned>(blocks);
  block.fibers = std::vector<Fiber>(threads);
  block.warps.assign(threads / kWarp, Warp{});
  block.order.resize(threads);
  std::mt19937 random(order);
  for (int64_t b = 0; b < blocks; ++b) {
    block.index = static_cast<unsigned>(b);
    for (int i = 0; i < threads; ++i) block.order[i] = order == 1 ? threads - 1 - i : i;
    if (order > 1) std::shuffle(block.order.begin(), block.order.end(), random);
    memset(shared, 0xff, rounded);
    run_block(threads);
  }
  munmap(memory, span + page);
}

}  // namespace emulation
