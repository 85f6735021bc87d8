#include "cuda_emulation.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace emulation {
namespace {

constexpr int kWarp = 32, kWarpgroup = 128;
constexpr size_t kStack = 256 * 1024;

struct Copy {
  void* to;
  const void* from;
  int valid, size;
};

enum class State { ready, at_barrier, in_meeting, done };

struct Fiber {
  State state;
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> open;
  jmp_buf resume;
  ucontext_t context;
  int named;  // the barrier that it waits at, or -1
  bool started, fenced;
  bool looked;  // paused in a loop that waits
};

// Threads that meet in one operation.
struct Meeting {
  Operation operation;
  std::vector<void*> lanes;
  int arrived;
};

struct Product {
  std::function<void()> run, finish;
};

struct Products {
  std::vector<std::vector<Product>> groups;  // committed, oldest first
  std::vector<Product> open;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Products> products;  // of each warp
  std::vector<Meeting> warps, warpgroups;
  int at_named[16], threads_of_named[16], waited;
  std::vector<int> order;
  int at_barrier = 0, done = 0;
  unsigned index = 0;
};

Block block;
int current = 0;
unsigned grid = 0;
int order = 0, largest = 0;
unsigned char *shared = nullptr, *published = nullptr;
size_t shared_size = 0;
const std::function<void()>* work = nullptr;
jmp_buf scheduler;
bool in_fiber = false;
std::string failure;

std::vector<Check>& checks() {  // of other translation units, which may begin before this one
  static std::vector<Check> all;
  return all;
}

std::vector<unsigned char*> stacks;

// glibc's swapcontext makes a system call a switch; _setjmp and _longjmp between contexts made once do not.
void pause() {
  if (_setjmp(block.fibers[current].resume) == 0) _longjmp(scheduler, 1);
}

void perform(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.valid);
  memset(static_cast<char*>(copy.to) + copy.valid, 0, copy.size - copy.valid);
}

void entry() {
  (*work)();
  Fiber& fiber = block.fibers[current];
  for (const auto& group : fiber.groups)
    if (!group.empty()) fail("a thread ends with copies that it never waited for");
  const Products& products = block.products[current / kWarp];
  if (!products.groups.empty() || !products.open.empty()) fail("a warp ends with products that it never waited for");
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

// Runs a thread until it pauses.
void resume(int id) {
  current = id;
  in_fiber = true;
  if (_setjmp(scheduler) == 0) {
    if (block.fibers[id].started) _longjmp(block.fibers[id].resume, 1);
    start(block.fibers[id], id);
  }
  in_fiber = false;
  if (!failure.empty()) throw std::runtime_error(failure);
}

void run_block(int threads) {
  block.at_barrier = block.done = 0;
  for (Fiber& fiber : block.fibers) {
    fiber.state = State::ready;
    fiber.groups.clear();
    fiber.open.clear();
    fiber.started = fiber.fenced = false;
    fiber.named = -1;
  }
  for (Meeting& warp : block.warps) warp.arrived = 0;
  for (Meeting& warpgroup : block.warpgroups) warpgroup.arrived = 0;
  for (int& count : block.at_named) count = 0;
  block.waited = 0;
  failure.clear();
  // Round by round; or warp by warp, each as far as it comes while the others stand still.
  const int size = order == 1 ? kWarp : threads;
  for (bool progress = true; block.done < threads;) {
    if (!progress) fail("threads wait for partners that never come");
    progress = false;
    for (int first = 0; first < threads; first += size)
      for (bool again = true; again;) {
        again = false;
        for (int i = first; i < first + size; ++i) {
          Fiber& fiber = block.fibers[block.order[i]];
          if (fiber.state != State::ready) continue;
          progress = true;
          fiber.looked = false;
          resume(block.order[i]);
          again = again || (order == 1 && !fiber.looked);
        }
      }
  }
}

}  // namespace

[[noreturn]] void fail(const char* what) {
  failure = std::string("CUDA emulation: ") + what + " (block " + std::to_string(block.index) + ", thread " +
            std::to_string(current) + ")";
  if (in_fiber) _longjmp(scheduler, 1);  // no exception crosses from one stack to another
  throw std::runtime_error(failure);
}

int around_blocks(Check check) {
  checks().push_back(check);
  return 0;
}

const unsigned char* published_memory() { return published; }
void publish_writes() { memcpy(published, shared, shared_size); }
void write_published(void* to, const void* from, size_t bytes) {
  memcpy(to, from, bytes);
  memcpy(published + (static_cast<unsigned char*>(to) - shared), from, bytes);
}
void lose(void* from, size_t bytes) {
  memset(from, 0xff, bytes);
  memset(published + (static_cast<unsigned char*>(from) - shared), 0xff, bytes);
}

Index thread_index() { return {static_cast<unsigned>(current)}; }
Index block_index() { return {block.index}; }
Index block_size() { return {static_cast<unsigned>(block.fibers.size())}; }
Index grid_size() { return {grid}; }
unsigned char* shared_memory() { return shared; }
void set_order(int which) { order = which; }
int largest_block() { return std::exchange(largest, 0); }

void block_barrier() {
  if (block.done > 0) fail("a barrier after a thread of the block has ended");
  Fiber& fiber = block.fibers[current];
  if (++block.at_barrier == static_cast<int>(block.fibers.size())) {
    block.at_barrier = 0;
    made_progress();
    for (Fiber& other : block.fibers)
      if (other.state == State::at_barrier && other.named < 0) other.state = State::ready;
    return;
  }
  fiber.state = State::at_barrier;
  pause();
}

void named_barrier(int id, int threads) {
  if (id < 1 || id > 15) fail("a named barrier that is none of 1 to 15");
  if (threads % kWarp != 0) fail("a named barrier of no whole number of warps");
  if (block.at_named[id] > 0 && block.threads_of_named[id] != threads) fail("one barrier with two numbers of threads");
  block.threads_of_named[id] = threads;
  if (++block.at_named[id] == threads) {
    block.at_named[id] = 0;
    made_progress();
    for (Fiber& other : block.fibers)
      if (other.named == id) {
        other.named = -1;
        other.state = State::ready;
      }
    return;
  }
  block.fibers[current].named = id;
  block.fibers[current].state = State::at_barrier;
  pause();
}

void yield() {
  if (++block.waited > 1000 * static_cast<int>(block.fibers.size()))
    fail("a thread waits in a loop for what never comes");
  block.fibers[current].looked = true;
  pause();
}

void made_progress() { block.waited = 0; }

static void meet(std::vector<Meeting>& meetings, int size, Operation operation, void* mine) {
  Meeting& meeting = meetings[current / size];
  if (meeting.arrived > 0 && meeting.operation != operation) fail("threads meet in different operations");
  meeting.operation = operation;
  meeting.lanes[current % size] = mine;
  if (++meeting.arrived == size) {
    made_progress();
    operation(meeting.lanes.data());
    meeting.arrived = 0;
    for (int l = 0; l < size; ++l) {
      Fiber& other = block.fibers[current / size * size + l];
      if (other.state == State::in_meeting) other.state = State::ready;
    }
    return;
  }
  block.fibers[current].state = State::in_meeting;
  pause();
}

void warp_collective(Operation operation, void* mine) { meet(block.warps, kWarp, operation, mine); }
void warpgroup_collective(Operation operation, void* mine) { meet(block.warpgroups, kWarpgroup, operation, mine); }

void copy_later(void* to, const void* from, int valid, int size) {
  if (reinterpret_cast<uintptr_t>(to) % size != 0)
    fail("a background copy to an address that is no multiple of its size");
  if (valid > 0 && reinterpret_cast<uintptr_t>(from) % size != 0)
    fail("a background copy from an address that is no multiple of its size");
  if (valid < 0 || valid > size) fail("a background copy of less than nothing or more than its size");
  memset(to, 0xff, size);  // from now on it may land
  block.fibers[current].open.push_back({to, from, valid, size});
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

void product_fence() { block.fibers[current].fenced = true; }
void need_product_fence() {
  if (!block.fibers[current].fenced) fail("a product without a fence since the last wait");
}

void products_issue(int warp, std::function<void()> run, std::function<void()> finish) {
  block.products[warp].open.push_back({std::move(run), std::move(finish)});
}

void products_commit() {
  Products& products = block.products[current / kWarp];
  products.groups.push_back(std::move(products.open));
  products.open.clear();
}

void products_wait(int pending) {
  for (int l = 0; l < kWarp; ++l) block.fibers[current / kWarp * kWarp + l].fenced = false;
  auto& groups = block.products[current / kWarp].groups;
  while (static_cast<int>(groups.size()) > pending) {
    for (const Product& product : groups.front()) product.run();
    for (const Product& product : groups.front()) product.finish();
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
  const auto unmap = [&](void* at) { munmap(at, span + page); };
  const std::unique_ptr<void, decltype(unmap)> mapped(memory, unmap);
  mprotect(static_cast<char*>(memory) + span, page, PROT_NONE);
  shared = static_cast<unsigned char*>(memory) + span - rounded;
  shared_size = rounded;
  std::vector<unsigned char> published_bytes(rounded);
  published = published_bytes.data();
  largest = std::max(largest, threads);
  work = &body;
  grid = static_cast<unsigned>(blocks);
  block.fibers = std::vector<Fiber>(threads);
  block.products.assign(threads / kWarp, Products{});
  block.warps.assign(threads / kWarp, Meeting{nullptr, std::vector<void*>(kWarp), 0});
  block.warpgroups.assign(threads / kWarpgroup, Meeting{nullptr, std::vector<void*>(kWarpgroup), 0});
  block.order.resize(threads);
  std::mt19937 random(order);
  for (int64_t b = 0; b < blocks; ++b) {
    block.index = static_cast<unsigned>(b);
    for (int i = 0; i < threads; ++i) block.order[i] = order == 1 ? threads - 1 - i : i;
    if (order > 1) std::shuffle(block.order.begin(), block.order.end(), random);
    lose(shared, rounded);
    for (const Check check : checks()) check(true);
    run_block(threads);
    for (const Check check : checks()) check(false);
  }
}

}  // namespace emulation
