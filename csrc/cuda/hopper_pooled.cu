// Patch-weighted similarity and late interaction of all pairs on Hopper; stores of float16, bfloat16 and int8.
//
// A block keeps 128 rows of queries in shared memory and streams the rows of some consecutive items past them, 128 rows
// at a time, whatever items they belong to. One thread feeds by the tensor copy engine; two warpgroups own 64 query
// rows each, multiply (wgmma) and pool in registers. A warpgroup has two sets of accumulators: while it pools one, the
// tensor cores fill the other.
//
// Beyond about 512 elements a row, 128 query rows do not fit. Then they are streamed too, a chunk beside each chunk of
// 256 rows of the store, and both sets of accumulators are filled before they are pooled: with so long rows pooling is
// a small part of the work.
//
// int8 rows are brought as they are; three more warps make them float16 in shared memory (hopper_widen.cuh).
#include <type_traits>

#include "hopper.h"
#include "hopper_pool.cuh"
#include "hopper_widen.cuh"
#include "tensor_map.h"

namespace heritage_align::hopper {
namespace {

constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kGroupThreads = 128;
constexpr int kThreadsOfBlock = (1 + kGroups) * kGroupThreads;
constexpr int kStoreBytes = kColumns * 128;        // a chunk (64 elements) of 128 rows of the store
constexpr int kWordChunkBytes = kTileWords * 128;  // of 64 query rows
constexpr int kMaxSlots = 12, kMaxByteSlots = 3;
constexpr int kBestRows = kStripe + 16;
constexpr int kListBytes = (static_cast<int>(sizeof(Tile)) + 127) / 128 * 128;
constexpr int kSharedLimit = 227 * 1024;

// Late interaction: the maxima of the items that ended last, until their sums are made: at the end of a product, or
// when another stripe might not find room.
struct Best {
  float row[kBestRows][kTileWords];
  int64_t item[kBestRows];
};

struct Pipeline {
  Barrier full[kMaxSlots], empty[kMaxSlots];
  Barrier brought[kMaxByteSlots], widened[kMaxByteSlots];  // the same for the slots of int8 rows
};

// How a block works: in slots of kSlotChunks chunks of kTileColumns rows of the store, one slot a tile where kWholeTile
// says so, with the query rows beside them where all stream. kFixedSlots: their number, where it does not depend on the
// length of the rows. kWidens: the store is int8, and comes through kByteSlots slots of a chunk of its bytes.
template <int slot_chunks, bool whole_tile, bool all_stream, bool widens>
struct Shape {
  static constexpr int kSlotChunks = slot_chunks;
  static constexpr bool kWholeTile = whole_tile, kAllStream = all_stream, kWidens = widens;
  static constexpr int kFixedSlots = widens && all_stream ? 3 : widens || whole_tile || all_stream ? 4 : 0;
  static constexpr int kTileColumns = all_stream ? 2 * kColumns : kColumns;
  static constexpr int kStreamedWords = all_stream ? kGroups * kWordChunkBytes : 0;
  static constexpr int kSlotBytes = kStreamedWords + slot_chunks * kTileColumns * 128;
  static constexpr int kByteSlots = !widens ? 0 : all_stream ? 2 : kMaxByteSlots;
  static constexpr int kByteSlotBytes = kTileColumns * kBytePitch;
  static constexpr int kScaleBytes = widens ? kScaleTiles * kTileColumns * static_cast<int>(sizeof(float)) : 0;
  static_assert(!widens || kFixedSlots <= 4, "as kScaleTiles counts on");

  static int shared_bytes(int chunks, int slots, bool maximum_sum) {
    return 1024 + kGroups * ((all_stream ? 0 : chunks * kWordChunkBytes) + kListBytes) + slots * kSlotBytes +
           kByteSlots * kByteSlotBytes + kScaleBytes + (maximum_sum ? kGroups * static_cast<int>(sizeof(Best)) : 0) +
           static_cast<int>(sizeof(Pipeline));
  }
  static int slots_for(int chunks, bool maximum_sum) {
    const int room = (kSharedLimit - shared_bytes(chunks, 0, maximum_sum)) / kSlotBytes;
    return std::min(kFixedSlots > 0 ? kFixedSlots : kMaxSlots, room);
  }
};
template <bool widens>
using ShortRows = Shape<2, true, false, widens>;  // 65 to 128 elements, maxima
template <bool widens>
using Stepwise = Shape<1, false, false, widens>;
template <bool widens>
using AllStream = Shape<1, false, true, widens>;
constexpr int kLeastSlots = 4;  // three wait for a product to be pooled while the next is on its way

struct Parameters {
  CUtensorMap store;
  CUtensorMap words;  // where all stream: blocks of 64 query rows, packed
  PooledParameters pooled;
  Tasks grid;       // tiles of query rows by ranges of items, in place of text groups by image groups
  int64_t total;    // rows of the store
  int64_t blocks;   // of 64 query rows
  int parts;        // blocks of a group of texts: more than one where a query may have more than 64 rows
  int chunks;       // of 64 elements a row
  int slots;
  float rate;       // see State<Pooler::softmax>
  float* partial;   // (parts, items, texts): sums over the rows of one part of a query
};

struct Range {
  int64_t first, last;  // items
  int64_t begin, end;   // rows
};

// Eight elements of a query row as they are multiplied: as they are stored, or float16 of int8, whose scale comes later
// and is then positive. Zeros behind the row's end.
__device__ __forceinline__ Sixteen query_piece(const Rows& queries, int64_t row, int64_t column) {
  constexpr int piece = 8;
  Sixteen loaded{};
  if (queries.storage == Storage::i8) {
    const float sign = scale_of(queries, row) < 0.0f ? -1.0f : 1.0f;
    float x[piece];
    read_elements_of<Storage::i8>(queries, row, column, x);
    HA_UNROLL
    for (int e = 0; e < piece; e += 2) loaded.word[e / 2] = halves_of_floats(sign * x[e], sign * x[e + 1]);
    return loaded;
  }
  const uint16_t* from = row_of<Storage::f16>(queries, row) + column;
  if (queries.aligned && column + piece <= queries.dim) return *reinterpret_cast<const Sixteen*>(from);
  HA_UNROLL
  for (int e = 0; e < piece; ++e)
    if (column + e < queries.dim) loaded.word[e / 2] |= static_cast<uint32_t>(from[e]) << 16 * (e % 2);
  return loaded;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Consumer {
  static constexpr int kSize = kGroupThreads;
  __device__ static int thread() { return threadIdx.x % kGroupThreads; }
  __device__ static void sync() { named_barrier<kGroupThreads>(threadIdx.x / kGroupThreads); }
};

// The first item that starts at `row` or behind it; each step of a warp leaves a 32nd of the items.
__device__ __forceinline__ int64_t first_item_from(const Rows& store, int64_t row) {
  int64_t low = 0, high = store.items;
  while (low < high) {
    const int64_t step = (high - low + kLanes - 1) / kLanes, probe = low + threadIdx.x % kLanes * step;
    const int before = __popc(__ballot_sync(kAllLanes, probe < high && store.start(probe) < row));
    if (before == 0) break;
    high = low + before * step < high ? low + before * step : high;
    low += (before - 1) * step + 1;
  }
  return low;
}

// Ranges are equal in rows, as far as whole items go.
__device__ __forceinline__ Range range_of(const Parameters& p, int64_t index) {
  const Rows& store = p.pooled.patches;
  const int64_t ranges = p.grid.image_groups;
  const int64_t first = index == 0 ? 0 : first_item_from(store, p.total * index / ranges);
  const int64_t last = index + 1 == ranges ? store.items : first_item_from(store, p.total * (index + 1) / ranges);
  return {first, last, store.start(first), store.start(last)};
}

// Whether a block of 64 query rows exists; the parts behind the end of a query do not.
__device__ __forceinline__ bool has_rows(const Parameters& p, int64_t block) {
  if (block >= p.blocks) return false;
  const int64_t group = block / p.parts, part = block % p.parts;
  if (part == 0) return true;
  const Tasks& tasks = p.pooled.tasks;
  const bool binned = tasks.bin_order != nullptr;
  const int64_t begin = binned ? tasks.bin_starts[group] : group * tasks.texts_per_group;
  const bool alone = binned ? tasks.bin_starts[group + 1] == begin + 1 : tasks.texts_per_group == 1;
  if (!alone) return false;
  const int64_t text = binned ? tasks.bin_order[begin] : begin;
  return p.pooled.queries.start(text + 1) - p.pooled.queries.start(text) > part * kTileWords;
}

__device__ __forceinline__ bool tile_has_rows(const Parameters& p, int64_t row_tile) {
  static_assert(kGroups == 2, "");
  return has_rows(p, row_tile * kGroups) || has_rows(p, row_tile * kGroups + 1);
}

struct Cursor {  // a place in the ring of slots
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int slots) {
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

template <class S>
__device__ __forceinline__ int slots_of(const Parameters& p) {
  return S::kFixedSlots > 0 ? S::kFixedSlots : p.slots;
}

// By one warp. An int8 store goes to the slots of its bytes, and only streaming query rows to those of the products.
template <class S>
__device__ __forceinline__ void feed(const Parameters& p, unsigned char* slots, unsigned char* byte_slots,
                                     Pipeline& pipeline) {
  Cursor to, bytes_to;
  for (int64_t task = blockIdx.x; task < p.grid.count; task += gridDim.x) {
    const Corner corner = corner_of(p.grid, task);
    if (!tile_has_rows(p, corner.text_group)) continue;
    const Range range = range_of(p, corner.first_image);
    const int word = static_cast<int>(corner.text_group * kGroups * kTileWords);
    if (threadIdx.x == 0)
      for (int64_t row = range.begin; row < range.end; row += S::kTileColumns)
        for (int chunk = 0; chunk < p.chunks; chunk += S::kWidens ? 1 : S::kSlotChunks) {
          if constexpr (S::kWidens) {
            Barrier& brought = pipeline.brought[bytes_to.slot];
            pipeline.widened[bytes_to.slot].wait(bytes_to.parity ^ 1);
            brought.arrive_expecting(S::kByteSlotBytes);
            copy_box(byte_slots + bytes_to.slot * S::kByteSlotBytes, p.store, chunk * kBoxColumns,
                     static_cast<int>(row), brought);
            bytes_to.advance(S::kByteSlots);
            if (!S::kAllStream) continue;
          }
          Barrier& full = pipeline.full[to.slot];
          pipeline.empty[to.slot].wait(to.parity ^ 1);
          full.arrive_expecting(S::kWidens ? S::kStreamedWords : S::kSlotBytes);
          unsigned char* slot = slots + to.slot * S::kSlotBytes;
          if (S::kAllStream) copy_box(slot, p.words, chunk * kBoxColumns, word, full);
          HA_UNROLL
          for (int c = 0; c < S::kSlotChunks && !S::kWidens; ++c)
            copy_box(slot + S::kStreamedWords + c * kStoreBytes, p.store, (chunk + c) * kBoxColumns,
                     static_cast<int>(row), full);
          to.advance(slots_of<S>(p));
        }
    __syncwarp();
  }
}

// By kWidenWarps warps: what `feed` brings of an int8 store becomes the float16 of a slot, and a tile's scales come
// before its first product, a tile ahead.
template <class S>
__device__ __forceinline__ void widen(const Parameters& p, unsigned char* slots, const unsigned char* byte_slots,
                                      float* scales, Pipeline& pipeline) {
  const int thread = threadIdx.x - kLanes;
  const bool arrives = threadIdx.x % kLanes == 0;
  Cursor from, to;
  int tile = 0;
  const auto bring = [&](int of_tile, int64_t row, int64_t end) {
    if (row < end)
      bring_scales<S::kTileColumns>(scales + of_tile % kScaleTiles * S::kTileColumns, p.pooled.patches, row, p.total,
                                    thread);
    copy_commit();
  };
  for (int64_t task = blockIdx.x; task < p.grid.count; task += gridDim.x) {
    const Corner corner = corner_of(p.grid, task);
    if (!tile_has_rows(p, corner.text_group)) continue;
    const Range range = range_of(p, corner.first_image);
    bring(tile, range.begin, range.end);
    for (int64_t row = range.begin; row < range.end; row += S::kTileColumns, ++tile)
      for (int chunk = 0; chunk < p.chunks; chunk += S::kSlotChunks, to.advance(slots_of<S>(p))) {
        pipeline.empty[to.slot].wait(to.parity ^ 1);
        if (chunk == 0) {
          bring(tile + 1, row + S::kTileColumns, range.end);
          copy_wait<1>();
        }
        unsigned char* slot = slots + to.slot * S::kSlotBytes + S::kStreamedWords;
        HA_NO_UNROLL
        for (int c = 0; c < S::kSlotChunks; ++c, from.advance(S::kByteSlots)) {
          pipeline.brought[from.slot].wait(from.parity);
          widen_rows<S::kTileColumns>(byte_slots + from.slot * S::kByteSlotBytes, slot + c * kStoreBytes, thread);
          __syncwarp();
          if (arrives) pipeline.widened[from.slot].arrive();
        }
        publish_writes();
        __syncwarp();
        if (arrives) pipeline.full[to.slot].arrive();
      }
  }
  copy_wait<0>();
}

// Query rows of a block to shared memory, swizzled as the copy engine would; zeros where there are none.
__device__ __forceinline__ void load_words(unsigned char* to, const Rows& queries, const Tile& tile, int first_word,
                                           int chunks) {
  constexpr int pieces_of_chunk = 8, piece = 8;
  const int pieces = chunks * pieces_of_chunk;
  for (int i = Consumer::thread(); i < kTileWords * pieces; i += kGroupThreads) {
    const int row = i / pieces, column = i % pieces * piece;
    const bool exists = first_word + row < tile.n_words && column < queries.dim;
    unsigned char* at = to + column / kBoxColumns * kWordChunkBytes + row * 128 +
                        ((column / piece % pieces_of_chunk ^ row % 8) * 16);
    if (queries.aligned && queries.storage != Storage::i8) {
      const int64_t left = exists ? queries.dim - column : 0;
      const int valid = left < piece ? static_cast<int>(left) : piece;
      const uint16_t* from = row_of<Storage::f16>(queries, exists ? tile.row_of_word(first_word + row) : 0);
      copy_async(at, from + (exists ? column : 0), valid * 2);
    } else {
      *reinterpret_cast<Sixteen*>(at) =
          exists ? query_piece(queries, tile.row_of_word(first_word + row), column) : Sixteen{};
    }
  }
  copy_commit();
  copy_wait<0>();
  publish_writes();
  Consumer::sync();
}

// One chunk: 64 words by 128 rows of the store, 64 elements.
template <Storage storage>
__device__ __forceinline__ void multiply(float (&c)[kAccumulators], uint64_t a, uint64_t b, bool accumulate) {
  HA_UNROLL
  for (int k = 0; k < 128; k += 32) {
    if (storage != Storage::bf16) {
      product_f16(c, further(a, k), further(b, k), accumulate || k > 0);
    } else {
      product_bf16(c, further(a, k), further(b, k), accumulate || k > 0);
    }
  }
}

template <Storage storage, Pooler pooler, class S>
struct Warpgroup {
  const Parameters& p;
  int group;             // 0 or 1
  unsigned char* words;  // of this warpgroup
  unsigned char* slots;
  const float* scales;   // of the rows of the last kScaleTiles tiles, where the store is int8
  Pipeline& pipeline;
  Tile& tile;            // its texts
  Best* best;            // with late interaction
  Cursor at;             // the next slot to be multiplied
  int oldest, held;      // slots that are not given back yet
  int pending;           // rows of `best` that await their sums
  int part;              // of its queries
  int first_tile;        // of this range, of all that the block has seen
  float query_scale;     // of the row that this thread writes
  Ends ends;
  State<pooler> state;

  // Products with one slot of the stream are one group. Behind the end (`exists` false) they are of whatever lies in
  // the slot and nobody looks at them: a branch around them, and the compiler would let no two products overlap.
  __device__ __forceinline__ void multiply_slot(float (&c)[kAccumulators], int chunk, bool exists) {
    if (exists) pipeline.full[at.slot].wait(at.parity);
    const uint64_t a = further(operand(words), chunk * kWordChunkBytes);
    const uint64_t b = further(operand(slots), at.slot * S::kSlotBytes);
    product_fence();
    HA_UNROLL
    for (int i = 0; i < S::kSlotChunks; ++i)
      multiply<storage>(c, further(a, i * kWordChunkBytes), further(b, i * kStoreBytes), chunk + i > 0);
    product_commit();
    if (!exists) return;
    at.advance(slots_of<S>(p));
    ++held;
  }

  __device__ __forceinline__ void give_back(int but) {
    HA_NO_UNROLL
    while (held > but) {
      if (threadIdx.x % kLanes == 0) pipeline.empty[oldest].arrive();
      if (++oldest == slots_of<S>(p)) oldest = 0;
      --held;
    }
  }

  // Late interaction: for each pending item and each text of the block, the sum over the text's rows, as four sums in
  // step.
  __device__ __forceinline__ void sum_rows() {
    Consumer::sync();  // all maxima are there
    const int text = Consumer::thread() % kTileWords;
    if (text < tile.n_texts) {
      const int start = tile.word_start[text] - part * kTileWords, stop = tile.word_start[text + 1] - part * kTileWords;
      const int from = start > 0 ? start : 0, to = stop < kTileWords ? stop : kTileWords;
      for (int n = Consumer::thread() / kTileWords; n < pending && from < to; n += kGroupThreads / kTileWords) {
        const float* row = best->row[n] + from;
        float sums[4] = {};
        int w = 0;
        HA_NO_UNROLL
        for (; w + 4 <= to - from; w += 4)
          HA_UNROLL
          for (int i = 0; i < 4; ++i) sums[i] += row[w + i];
        HA_NO_UNROLL
        for (; w < to - from; ++w) sums[0] += row[w];
        const int64_t item = best->item[n];
        float* scores = p.pooled.scores + item * p.pooled.tasks.image_step;
        if (p.parts > 1) scores = p.partial + (part * p.pooled.patches.items + item) * p.pooled.tasks.image_step;
        scores[tile.place[text]] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      }
    }
    Consumer::sync();  // all are read
    pending = 0;
  }

  __device__ __forceinline__ static int written_row() {
    const int lane = threadIdx.x % kLanes;
    return Consumer::thread() / kLanes * 16 + lane / 4 + lane % 2 * 8;
  }

  // What makes similarities of the accumulators of columns first .. first + 128 of a tile of the range. Tile -1 is none.
  __device__ __forceinline__ auto similarity(int of_tile, int first) const {
    if constexpr (storage == Storage::i8) {
      return Scaled(scales + (first_tile + of_tile + kScaleTiles) % kScaleTiles * S::kTileColumns + first);
    } else {
      return AsMultiplied{};
    }
  }

  // Half of a set of accumulators, which starts at column `first`.
  template <class Similarity>
  __device__ __forceinline__ void pool(const float (&c)[kAccumulators], Similarity of, int half, int first) {
    const PooledParameters& q = p.pooled;
    const bool sums = pooler == Pooler::max && q.maximum_sum;
    const int lane = threadIdx.x % kLanes;
    const int row = written_row();
    pool_half(
        c, of, half, first, q.patches, q.weights, p.rate, pending > 0, ends, state,
        [&] {
          const int divisor = q.settings.pooling == Pooling::mean ? ends.end - ends.begin : 1;
          const float upper = state.value(0, p.rate, divisor), lower = state.value(1, p.rate, divisor);
          const float value = (lane % 2 == 0 ? upper : lower) * (storage == Storage::i8 ? query_scale : 1.0f);
          if (sums) {
            if (lane % 4 < 2) best->row[pending][row] = value;
            if (Consumer::thread() == 0) best->item[pending] = ends.item;
            ++pending;
          } else if (lane % 4 < 2 && row < tile.n_words) {
            float& place = q.scores[ends.item * q.tasks.image_step + tile.place[row]];
            place = q.mix ? mixed(q.settings, value, place) : value;
          }
        },
        [&](bool last) {
          if (sums && pending > (last ? 0 : kBestRows - kStripe)) sum_rows();
        });
  }

  template <class Similarity>
  __device__ __forceinline__ void pool_both(const float (&c)[kAccumulators], Similarity of, int first) {
    if (pooler == Pooler::max && inside_one(ends, first, kColumns)) {
      state.template add_half<0>(c, of, p.rate);
      state.template add_half<1>(c, of, p.rate);
      return;
    }
    HA_NO_UNROLL
    for (int half = 0; half < 2; ++half) pool(c, of, half, first);
  }

  // The products of tile `turn` begin in one set of accumulators; while they are under way, the other set, of the turn
  // before, is pooled. Before turn 0 that is nothing: columns in front of the stream, which belong to no item.
  __device__ __forceinline__ void take_turn(float (&now)[kAccumulators], float (&before)[kAccumulators], int turn,
                                            int turns) {
    const bool exists = turn < turns;
    const int first = (turn - 1) * kColumns;
    multiply_slot(now, 0, exists);
    product_wait_for<1>(before);
    give_back(exists ? 1 : 0);
    const auto of = similarity(turn - 1, 0);
    if (S::kWholeTile) {
      pool_both(before, of, first);
      return;
    }
    // The tensor cores have two chunks before them while half of the set is pooled. Loops of one step at most rather
    // than branches, and no wait between the halves: with either, ptxas 13.0 lets no two products overlap.
    const int chunks = exists ? p.chunks : 1;
    for (int chunk = 1; chunk < 2 && chunk < chunks; ++chunk) multiply_slot(now, chunk, true);
    pool(before, of, 0, first);
    for (int chunk = 2; chunk < 3 && chunk < chunks; ++chunk) multiply_slot(now, chunk, true);
    pool(before, of, 1, first);
    for (int chunk = 3; chunk < chunks; ++chunk) {
      multiply_slot(now, chunk, true);
      product_wait<1>();
      give_back(1);
    }
  }

  __device__ __forceinline__ void stream_past_words(const Range& range) {
    const int turns = static_cast<int>((range.end - range.begin + kColumns - 1) / kColumns);
    float even[kAccumulators] = {}, odd[kAccumulators] = {};
    int turn = 0;
    for (; turn <= turns; turn += 2) {
      take_turn(even, odd, turn, turns);
      take_turn(odd, even, turn + 1, turns);
    }
    // One wait would do. But with a single way out of the loop ptxas 13.0 finds that the sets of accumulators touch
    // (C7514), and makes every product wait for the one before.
    if (turn % 4 == 0) {
      product_wait_for<0>(odd);
    } else {
      product_wait_for<0>(even);
    }
  }

  __device__ __forceinline__ void stream_all(const Range& range) {
    float left[kAccumulators], right[kAccumulators];
    const int columns = static_cast<int>(range.end - range.begin);
    for (int first = 0; first < columns; first += S::kTileColumns) {
      for (int chunk = 0; chunk < p.chunks; ++chunk) {
        pipeline.full[at.slot].wait(at.parity);
        const uint64_t slot = further(operand(slots), at.slot * S::kSlotBytes);
        const uint64_t own = further(slot, group * kWordChunkBytes);
        product_fence();
        multiply<storage>(left, own, further(slot, S::kStreamedWords), chunk > 0);
        multiply<storage>(right, own, further(slot, S::kStreamedWords + kStoreBytes), chunk > 0);
        product_commit();
        at.advance(slots_of<S>(p));
        ++held;
        product_wait<1>();
        give_back(1);
      }
      product_wait_for<0>(left);
      product_wait_for<0>(right);
      give_back(0);
      pool_both(left, similarity(first / S::kTileColumns, 0), first);
      pool_both(right, similarity(first / S::kTileColumns, kColumns), first + kColumns);
    }
  }

  // A warpgroup without rows lets the stream pass.
  __device__ __forceinline__ void skip(const Range& range) {
    for (int64_t step = 0; step < tiles_of(range) * (p.chunks / S::kSlotChunks); ++step) {
      pipeline.full[at.slot].wait(at.parity);
      at.advance(slots_of<S>(p));
      ++held;
      give_back(0);
    }
  }

  // What an earlier pass wrote of images without patches.
  __device__ __forceinline__ void score_empty_images(const Range& range) {
    const PooledParameters& q = p.pooled;
    for (int64_t item = range.first + Consumer::thread(); item < range.last; item += kGroupThreads)
      if (q.patches.start(item) == q.patches.start(item + 1))
        for (int text = 0; text < tile.n_texts; ++text)
          q.scores[item * q.tasks.image_step + tile.place[text]] = -INFINITY;
  }

  __device__ __forceinline__ static int tiles_of(const Range& range) {
    return static_cast<int>((range.end - range.begin + S::kTileColumns - 1) / S::kTileColumns);
  }

  __device__ __forceinline__ void run() {
    at = Cursor{};
    oldest = held = pending = first_tile = 0;
    for (int64_t task = blockIdx.x; task < p.grid.count; task += gridDim.x) {
      const Corner corner = corner_of(p.grid, task);
      if (!tile_has_rows(p, corner.text_group)) continue;
      const Range range = range_of(p, corner.first_image);
      const int64_t block = corner.text_group * kGroups + group;
      if (!has_rows(p, block)) {
        skip(range);
        first_tile += tiles_of(range);
        continue;
      }
      part = static_cast<int>(block % p.parts);
      start_group<Consumer>(p.pooled.tasks, TextGroups{}, block / p.parts, p.pooled.queries, tile);
      if (!S::kAllStream) load_words(words, p.pooled.queries, tile, part * kTileWords, p.chunks);
      if (storage == Storage::i8) {
        const int word = part * kTileWords + written_row();
        query_scale = word < tile.n_words ? fabsf(scale_of(p.pooled.queries, tile.row_of_word(word))) : 0.0f;
      }
      if (p.pooled.mix) score_empty_images(range);
      ends.start(p.pooled.patches, range.first, range.last);
      state.clear();
      if constexpr (S::kAllStream) {
        stream_all(range);
      } else {
        stream_past_words(range);
      }
      first_tile += tiles_of(range);
    }
  }
};

#endif

template <Storage storage, Pooler pooler, class S>
__global__ void __launch_bounds__(kThreadsOfBlock, 1) pooled_stream_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  HA_SHARED_MEMORY(shared);
  const int own_words = S::kAllStream ? 0 : p.chunks * kWordChunkBytes;
  unsigned char* words = shared + (1024 - shared_address(shared) % 1024) % 1024;
  unsigned char* slots = words + kGroups * own_words;
  unsigned char* byte_slots = slots + slots_of<S>(p) * S::kSlotBytes;
  auto* scales = reinterpret_cast<float*>(byte_slots + S::kByteSlots * S::kByteSlotBytes);
  unsigned char* lists = reinterpret_cast<unsigned char*>(scales) + S::kScaleBytes;
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(lists + kGroups * kListBytes);
  Best* best = reinterpret_cast<Best*>(&pipeline + 1);
  if (threadIdx.x == 0) {
    for (int s = 0; s < slots_of<S>(p); ++s) {
      pipeline.full[s].start(!S::kWidens ? 1 : S::kAllStream ? kWidenWarps + 1 : kWidenWarps);
      pipeline.empty[s].start(kGroups * kGroupThreads / kLanes);
    }
    for (int s = 0; s < S::kByteSlots; ++s) {
      pipeline.brought[s].start(1);
      pipeline.widened[s].start(kWidenWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    shrink_registers<S::kWidens ? 72 : 24>();
    if (threadIdx.x < kLanes) {
      feed<S>(p, slots, byte_slots, pipeline);
    } else if constexpr (S::kWidens) {
      widen<S>(p, slots, byte_slots, scales, pipeline);
    }
  } else {
    grow_registers<S::kWidens ? 216 : 240>();
    const int group = threadIdx.x / kGroupThreads - 1;
    Warpgroup<storage, pooler, S> own{p,      group,    words + group * own_words,
                                      slots,  scales,   pipeline,
                                      *reinterpret_cast<Tile*>(lists + group * kListBytes), best + group};
    own.run();
  }
#endif
}

struct PackParameters {
  Tasks tasks;
  Rows queries;
  int64_t blocks, pitch;
  int parts;
  uint16_t* packed;  // (blocks * 64, pitch): the rows of a block side by side, then zeros
};

// The rows of a block may lie anywhere in memory; the copy engine takes rectangles.
__global__ void __launch_bounds__(kThreads) pack_blocks_kernel(PackParameters p) {
  HA_SHARED_MEMORY(shared);
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  constexpr int piece = 8;
  for (int64_t block = blockIdx.x; block < p.blocks; block += gridDim.x) {
    start_group<Block>(p.tasks, TextGroups{}, block / p.parts, p.queries, tile);
    const int first = static_cast<int>(block % p.parts) * kTileWords;
    for (int w = threadIdx.x / kLanes; w < kTileWords; w += kThreads / kLanes) {
      uint16_t* to = p.packed + (block * kTileWords + w) * p.pitch;
      const bool exists = first + w < tile.n_words;
      for (int64_t d = threadIdx.x % kLanes * piece; d < p.pitch; d += kLanes * piece)
        *reinterpret_cast<Sixteen*>(to + d) =
            exists ? query_piece(p.queries, tile.row_of_word(first + w), d) : Sixteen{};
    }
  }
}

struct PartsParameters {
  const float* partial;
  Rows queries, documents;
  float* scores;
};

// The parts of long queries, in order.
__global__ void __launch_bounds__(kThreads) add_parts_kernel(PartsParameters p) {
  const int64_t pairs = p.documents.items * p.queries.items;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < pairs;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t document = i / p.queries.items, text = i % p.queries.items;
    const int64_t rows = p.queries.start(text + 1) - p.queries.start(text);
    if (rows == 0 || p.documents.start(document) == p.documents.start(document + 1)) continue;
    float sum = 0.0f;
    for (int64_t part = 0; part * kTileWords < rows; ++part) sum += p.partial[part * pairs + i];
    p.scores[i] = sum;
  }
}

// Ranges of items for each tile of query rows, so that all multiprocessors end together. A range costs its rows, half
// an item for not ending where it should, and about 400 rows for what happens once: the words, the first copies. That
// falls with the number of ranges until there is one more wave of blocks, so only the most that a number of waves takes
// is looked at: this is done at every call, and a thousand divisions would be most of its time on the host.
int64_t ranges_for(int64_t row_tiles, int64_t rows, int64_t items, int64_t multiprocessors) {
  constexpr int64_t most_waves = 8;
  int64_t best = 1, least = std::numeric_limits<int64_t>::max();
  for (int64_t waves = 1; waves <= most_waves; ++waves) {
    const int64_t ranges = std::min(items, waves * multiprocessors / row_tiles);
    if (ranges == 0) continue;
    const int64_t cost = waves * (rows / ranges + rows / items / 2 + 400);
    if (cost < least) {
      least = cost;
      best = ranges;
    }
    if (ranges == items) break;
  }
  return best;
}

template <Pooler pooler, class S>
void (*kernel_of(bool half))(Parameters) {
  if constexpr (S::kWidens) {
    return pooled_stream_kernel<Storage::i8, pooler, S>;
  } else {
    return half ? pooled_stream_kernel<Storage::f16, pooler, S> : pooled_stream_kernel<Storage::bf16, pooler, S>;
  }
}

template <class S>
void launch(const Device& device, Parameters& p) {
  p.grid.plan = Plan::all_pairs;
  p.grid.text_groups = (p.blocks + kGroups - 1) / kGroups;
  p.grid.image_groups = ranges_for(p.grid.text_groups, p.total, p.pooled.patches.items, device.multiprocessors());
  p.grid.images_per_group = 1;
  p.grid.count = p.grid.text_groups * p.grid.image_groups;
  const bool half = p.pooled.patches.storage == Storage::f16;
  const auto pooling = p.pooled.settings.pooling;
  using Other = std::conditional_t<S::kWholeTile, Stepwise<S::kWidens>, S>;
  const auto kernel = pooling == Pooling::max       ? kernel_of<Pooler::max, S>(half)
                      : pooling == Pooling::softmax ? kernel_of<Pooler::softmax, Other>(half)
                                                    : kernel_of<Pooler::sum, Other>(half);
  device.launch(kernel, std::min<int64_t>(p.grid.count, device.multiprocessors()), kThreadsOfBlock,
                S::shared_bytes(p.chunks, p.slots, p.pooled.maximum_sum), p);
}

template <bool widens>
bool score_stream(const Device& device, const PooledParameters& pooled, const Tensor& store, int64_t max_query) {
  const Rows& rows = pooled.patches;
  constexpr int64_t most_rows = (int64_t{1} << 31) - 1024;  // coordinates of the copy engine are 32 bits
  const int64_t total = store.size(0), chunks = (rows.dim + kBoxColumns - 1) / kBoxColumns;
  if (total >= most_rows || chunks > 1024) return false;
  Parameters p{};
  p.pooled = pooled;
  p.total = total;
  p.parts = static_cast<int>(std::max<int64_t>(1, (max_query + kTileWords - 1) / kTileWords));
  p.blocks = pooled.tasks.text_groups * p.parts;
  p.chunks = static_cast<int>(chunks);
  p.rate = -1.44269504f * pooled.settings.inverse_temperature;
  const bool sums = pooled.maximum_sum;
  const bool short_rows = pooled.settings.pooling == Pooling::max && p.chunks == ShortRows<widens>::kSlotChunks;
  p.slots = short_rows ? ShortRows<widens>::slots_for(p.chunks, sums) : Stepwise<widens>::slots_for(p.chunks, sums);
  const bool all_stream = p.slots < kLeastSlots;
  if (all_stream) p.slots = AllStream<widens>::slots_for(p.chunks, sums);
  if (!describe_rows(p.store, rows.storage, rows.values, rows.dim, total, rows.stride,
                     all_stream ? AllStream<widens>::kTileColumns : kColumns))
    return false;
  Maybe packed_memory, partial_memory;
  if (all_stream) {
    const int64_t packed_rows = p.blocks * kTileWords, pitch = (rows.dim + 7) / 8 * 8;
    if (packed_rows >= most_rows) return false;
    packed_memory = new_tensor(store, {packed_rows, pitch}, ScalarType::Half);
    auto* packed = static_cast<uint16_t*>(packed_memory->mutable_data_ptr());
    const Storage multiplied = widens ? Storage::f16 : rows.storage;
    if (!describe_rows(p.words, multiplied, packed, pitch, packed_rows, pitch, kGroups * kTileWords)) return false;
    device.launch(pack_blocks_kernel, blocks_for(p.blocks), kThreads, sizeof(Tile),
                  PackParameters{pooled.tasks, pooled.queries, p.blocks, pitch, p.parts, packed});
  }
  const int64_t pairs = rows.items * pooled.queries.items;
  if (p.parts > 1) {
    if (p.parts * pairs > int64_t{1} << 28) return false;  // 1 GB
    partial_memory = new_tensor(store, {p.parts, pairs}, ScalarType::Float);
    p.partial = static_cast<float*>(partial_memory->mutable_data_ptr());
  }
  if (all_stream) {
    launch<AllStream<widens>>(device, p);
  } else if (short_rows) {
    launch<ShortRows<widens>>(device, p);
  } else {
    launch<Stepwise<widens>>(device, p);
  }
  if (p.parts > 1)
    device.launch(add_parts_kernel, std::min<int64_t>((pairs + kThreads - 1) / kThreads, 4096), kThreads, 0,
                  PartsParameters{p.partial, pooled.queries, rows, pooled.scores});
  return true;
}

}  // namespace

bool score_pooled(const Device& device, const PooledParameters& pooled, const Tensor& store, int64_t max_query) {
  const Rows& rows = pooled.patches;
  const bool fits = pooled.tasks.plan == Plan::all_pairs && pooled.tasks.count > 0 && store.size(0) > 0 &&
                    rows.dim > 0 && rows.aligned && rows.stride >= rows.dim && rows.storage != Storage::f32;
  if (!chosen(device) || !fits) return false;
  return rows.storage == Storage::i8 ? score_stream<true>(device, pooled, store, max_query)
                                     : score_stream<false>(device, pooled, store, max_query);
}

}  // namespace heritage_align::hopper
