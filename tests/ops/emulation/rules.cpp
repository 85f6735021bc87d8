// A small kernel that brings operands, multiplies them and adds up what came, by the rules of the PTX manual; or that
// breaks the one rule that the first argument names. test_emulation_rules.py runs it: the emulation must end the launch
// with a message, or the sum must be wrong.
#include "cuda_emulation.h"

namespace heritage_align {
enum class Storage { f32, f16, bf16, i8 };
}

#include <cstdio>
#include <exception>
#include <string>

#include "hopper_ptx_emulated.h"

using namespace heritage_align;
using namespace heritage_align::hopper;

namespace {

constexpr int kThreads = 128, kRegions = 128;
constexpr int kWordBytes = 64 * 128, kRegionBytes = kRegions * 128, kOperandBytes = kWordBytes + kRegionBytes;

std::string broken;
bool breaks(const char* rule) { return broken == rule; }

struct Shared {
  unsigned char operands[kOperandBytes];
  alignas(16) uint16_t small[kThreads * 8];
  float of_warp[kThreads / 32];
  Barrier full;
};

uint16_t ones[kOperandBytes / 2], twos[kThreads * 8];
float sums[kThreads];

// Each of 64 x 128 numbers of the product is 16; each thread has 64 of them, and eight halves of 2.
constexpr float kRight = 64 * 16 + 8 * 2;

void kernel() {
  auto& shared = *reinterpret_cast<Shared*>(emulation::shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    shared.full.start(1);
    if (!breaks("publish barriers")) publish_barriers();
  }
  __syncthreads();
  if (breaks("publish writes")) {  // threads write the operands and do not say so
    auto* halves = reinterpret_cast<uint16_t*>(shared.operands);
    for (int i = thread; i < kOperandBytes / 2; i += kThreads) halves[i] = ones[0];
    if (thread == 0) shared.full.arrive();
  } else if (thread == 0) {
    shared.full.arrive_expecting(breaks("announce all bytes") ? kWordBytes : kOperandBytes);
    copy_bulk(shared.operands, ones, kOperandBytes, shared.full);
  }
  if (thread < 32 || !breaks("wait for operands")) shared.full.wait(breaks("wait for the right phase") ? 1 : 0);

  float d[kRegions / 2];
  if (!breaks("fence before products")) product_fence();
  product_f16(d, operand(shared.operands), operand(shared.operands + kWordBytes), false);
  product_commit();
  if (breaks("keep operands while they are read") && thread == 0) {
    shared.full.arrive_expecting(kOperandBytes);
    copy_bulk(shared.operands, ones, kOperandBytes, shared.full);
  }
  if (!breaks("wait for products")) product_wait<0>();
  if (breaks("wait for the right phase")) shared.full.wait(0);  // too late
  if (breaks("keep operands while they are read")) shared.full.wait(1);
  float sum = 0.0f;
  for (const float x : d) sum += x;

  uint16_t* own = shared.small + thread * 8;
  const int neighbour = (thread + 1) % kThreads;
  copy_async(own, twos + thread * 8, breaks("copy no more than there is") ? 24 : 16);
  copy_commit();
  if (!breaks("wait for copies")) copy_wait<0>();
  if (!breaks("meet before reading what others brought")) __syncthreads();
  for (int i = 0; i < 8; ++i) sum += float_of_f16(shared.small[neighbour * 8 + i]);
  if (breaks("meet before writing what others read")) {
    copy_async(own, twos, 0);
    copy_commit();
    copy_wait<0>();
  }
  if (breaks("keep what is read until all have read it")) {
    copy_async(own, twos + thread * 8, 16);
    copy_commit();
  }
  if (!breaks("let all threads meet") || thread != 5) named_barrier<kThreads>(1);
  if (breaks("meet in whole warps")) named_barrier<kThreads - 1>(1);
  copy_wait<0>();
  product_wait<0>();

  for (int round = 0; round < 2; ++round) {
    __syncwarp();
    if (thread % 32 == 0) shared.of_warp[thread / 32] = static_cast<float>(round);
    __syncthreads();
    for (const float x : shared.of_warp) sum += x - static_cast<float>(round);
    if (!breaks("meet before a room is used again")) __syncthreads();
  }
  if (breaks("wait for all copies") && thread == 0) {
    shared.full.arrive_expecting(kOperandBytes);
    copy_bulk(shared.operands, ones, kOperandBytes, shared.full);
  }
  sums[thread] = sum;
}

}  // namespace

int main(int arguments, char** argument) {
  broken = arguments > 1 ? argument[1] : "";
  for (uint16_t& one : ones) one = f16_of_float(1.0f);
  for (uint16_t& two : twos) two = f16_of_float(2.0f);
  bool right = true;
  for (int order = 0; order < 4; ++order) {
    emulation::set_order(order);
    try {
      emulation::run_grid(1, kThreads, sizeof(Shared) + 1024, kernel);
    } catch (const std::exception& broken_rule) {
      puts(broken_rule.what());
      return 0;
    }
    for (const float sum : sums) right = right && sum == kRight;
  }
  puts(right ? "right" : "wrong");
  return 0;
}
