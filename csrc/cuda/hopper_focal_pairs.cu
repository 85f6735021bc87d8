// Focal attention of candidate lists on Hopper. An image's regions are read once, and that is the cost: 36 regions of
// 1024 float16 are 74 KB, which a 132nd of an H100's memory brings in 3.2 microseconds. So each multiprocessor has one
// block that never stops reading: a feeding warp brings the images of its tasks to shared memory by bulk copies, one a
// row, and teams of four warps take turns to score them.
//
// A team's four warps share the product by dim: each has all regions (A, from shared memory; 64 bytes between the rows'
// banks, 32 where they are int8) and all words (B, straight from device memory, that is, L2) for a quarter of it. As in
// rerank.cuh a lane takes neighbouring elements of its row for both operands, eight of each; int8 become float16 on their
// way to the registers. Then come the three steps of epilogue/focal_attention.h by warps (attended_by_warp.cuh), the
// first as soon as a thread has added the quarters. All that does not need the image is under way before the team waits
// for it: words, the factor R; and what an image is, the feeding warp has found out before.
#include "attended_by_warp.cuh"
#include "hopper.h"
#include "hopper_ptx.cuh"

namespace heritage_align::hopper {
namespace {

constexpr int kTeamWarps = 4;
constexpr int kTeamThreads = kTeamWarps * kLanes;
constexpr int kSlots = 2;  // images in shared memory; a team frees one as soon as it has multiplied it
constexpr int kRegionFragments = 3, kRegions = kRegionFragments * 16;
constexpr int kChunkColumns = 32;  // four pieces of 16 bytes, one a lane of a quad

// Tiles of 16 words leave room for three teams, of 32 for two.
constexpr int kMaxTeams = 3;
constexpr int teams_for(int word_fragments) { return word_fragments <= 2 ? 3 : 2; }
constexpr int threads_for(int word_fragments) {
  return (teams_for(word_fragments) + 1) * kTeamThreads;  // the last four warps feed, which is one that works
}
// What a thread starts with is 128 or 168 registers; the feeding warps leave a part of theirs to the teams.
constexpr int kFeedRegisters = 56;
constexpr int team_registers_for(int word_fragments) { return word_fragments <= 2 ? 152 : 224; }

struct Sizes {
  int words;          // of a tile: 16 or 32
  int regions;        // of an image, at most
  int region_pitch;   // bytes between the rows of an image
  int factor_pitch;   // floats
  int partial_pitch;  // floats, odd
  bool i2t;

  // Of a team: the quarters of the product, R, and for i2t the factors of the tile's texts. A thread that adds quarters
  // leaves the cosine in place of the first and the logit in place of the second; then what step 2 needs and yields
  // follows in place of the others.
  __host__ __device__ int partial_floats() const { return (regions * partial_pitch + 3) / 4 * 4; }
  __host__ __device__ int weights_at() const { return 2 * partial_floats(); }
  __host__ __device__ int results_at() const { return weights_at() + kTeamWarps * kWarpContexts * 4; }
  __host__ __device__ int quarters_floats() const {
    const int later = results_at() + (i2t ? regions * words : 0);
    return later > kTeamWarps * partial_floats() ? later : kTeamWarps * partial_floats();
  }
  __host__ __device__ int factor_floats() const { return (regions * factor_pitch + 3) / 4 * 4; }
  __host__ __device__ int text_factor_pitch() const { return words + 1; }
  __host__ __device__ int text_factor_floats() const { return i2t ? words * text_factor_pitch() : 0; }
  __host__ __device__ int team_floats() const { return quarters_floats() + factor_floats() + text_factor_floats(); }
  __host__ __device__ int slot_bytes() const { return regions * region_pitch; }
};

struct Parameters {
  FocalParameters focal;
  Asked asked;
  int64_t tasks;
  Sizes sizes;
  const float* word_scales;  // where the words were int8, else null
};

struct Image {
  AskedImage asked;
  int64_t first_region, factor;
  int regions;
};

// Of each team: whether its image is known and has come, and whether it has freed the slot again. The image of step s is
// in slot s % kSlots, for team s % teams; by team and not by slot, so that a barrier is never two phases ahead of who
// waits.
struct Pipeline {
  Barrier known[kMaxTeams], come[kMaxTeams], freed[kMaxTeams];
  Image images[kMaxTeams];
};

// The texts of a tile, as Tile in tasks.cuh, and what else a team keeps.
struct Texts {
  int64_t next;   // the entry after those of this tile
  int64_t alone;  // the text that is alone in the tile and measured, or -1
  int n_texts, n_words;
  int64_t place[32], number[32];
  int64_t word_row[32];
  int word_start[33];
  float lengths[32], scales[32];  // of words
  float results[32];              // t2i
  float scores[32];               // t2i, when i2t is to be added
  float region_lengths[kRegions], region_scales[kRegions];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ Image image_of(const Parameters& p, int64_t task) {
  Image image{asked_image(p.asked, task, p.focal.regions.items), 0, 0, 0};
  if (image.asked.image >= 0) {
    if (p.focal.direction != Direction::i2t) image.factor = p.focal.image_factors.offsets[image.asked.image];
    image.first_region = p.focal.regions.start(image.asked.image);
    image.regions = static_cast<int>(p.focal.regions.start(image.asked.image + 1) - image.first_region);
  }
  return image;
}

struct Team {
  static constexpr int kSize = kTeamThreads;
  __device__ static int number() { return threadIdx.x / kTeamThreads; }
  __device__ static int thread() { return threadIdx.x % kTeamThreads; }
  __device__ static void sync() { named_barrier<kTeamThreads>(1 + number()); }
};

__device__ __forceinline__ Image image_of_lane(const Image& own, int lane) {
  const auto shuffled = [&](auto x) { return __shfl_sync(kAllLanes, x, lane); };
  return {{shuffled(own.asked.image), shuffled(own.asked.first), shuffled(own.asked.last)},
          shuffled(own.first_region), shuffled(own.factor), shuffled(own.regions)};
}

// Asks an image and its factor into the L2.
__device__ __forceinline__ void ask_for(const Parameters& p, const Image& image, const unsigned char* rows,
                                        int64_t row_pitch, uint32_t row_bytes) {
  const int lane = threadIdx.x % kLanes;
  if (row_pitch == row_bytes) {
    if (lane == 0 && image.regions > 0) ask_into_l2(rows, image.regions * row_bytes);
  } else {
    HA_NO_UNROLL
    for (int r = lane; r < image.regions; r += kLanes) ask_into_l2(rows + r * row_pitch, row_bytes);
  }
  if (lane != 0 || p.focal.direction == Direction::i2t || image.regions == 0) return;
  const auto factor = reinterpret_cast<uintptr_t>(p.focal.image_factors.values + image.factor);
  const uintptr_t from = factor / 16 * 16, to = (factor + triangle_size(image.regions) * sizeof(float) + 15) / 16 * 16;
  ask_into_l2(reinterpret_cast<const void*>(from), static_cast<uint32_t>(to - from));
}

// By one warp, whose lanes find out what the images of 32 steps are, in the time of one. While teams score, no slot may
// be free; so that device memory is read all the same, the image that comes when a slot is freed is asked into the L2 as
// soon as the one before it is under way (two for each multiprocessor: of 36 x 1024, 20 MB in all).
template <Storage storage, int kTeams>
__device__ __forceinline__ void feed(const Parameters& p, unsigned char* slots, Pipeline& pipeline) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row_pitch = p.focal.regions.stride * element_size(storage);
  const auto row_bytes = static_cast<uint32_t>(p.focal.regions.dim * element_size(storage));
  const auto rows_of_image = [&](const Image& image) {
    return static_cast<const unsigned char*>(p.focal.regions.values) + image.first_region * row_pitch;
  };
  Image of_lane{};
  uint32_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x, ++step) {
    if (step % kLanes == 0) {
      const int64_t task_of_lane = task + lane * static_cast<int64_t>(gridDim.x);
      if (task_of_lane < p.tasks) of_lane = image_of(p, task_of_lane);
      __syncwarp();
    }
    const Image image = image_of_lane(of_lane, step % kLanes);
    const uint32_t slot = step % kSlots, team = step % kTeams;
    const uint32_t before = step - kSlots;  // who had the slot
    if (step >= kSlots) pipeline.freed[before % kTeams].wait(before / kTeams & 1);
    Barrier& come = pipeline.come[team];
    if (lane == 0) {
      pipeline.images[team] = image;
      pipeline.known[team].arrive();
      come.arrive_expecting(image.regions * row_bytes);
    }
    __syncwarp();
    const unsigned char* from = rows_of_image(image);
    HA_NO_UNROLL
    for (int r = lane; r < image.regions; r += kLanes)
      copy_bulk(slots + slot * p.sizes.slot_bytes() + r * p.sizes.region_pitch, from + r * row_pitch, row_bytes, come);
    const int later = step % kLanes + kSlots;
    if (later < kLanes && task + kSlots * static_cast<int64_t>(gridDim.x) < p.tasks) {
      const Image coming = image_of_lane(of_lane, later);
      ask_for(p, coming, rows_of_image(coming), row_pitch, row_bytes);
    }
  }
}

// Lists the texts of the entries first .. last for which the tile has room; by the first warp of a team.
__device__ __forceinline__ void list_texts(const Parameters& p, int64_t first, int64_t last, Texts& texts) {
  const bool by_pair = p.asked.by_image.order == nullptr;
  const int lane = Team::thread();
  int64_t place = 0, text = 0, row = 0;
  int length = 0;
  if (first + lane < last) {
    place = pair_at(p.asked, first + lane);
    text = text_of_pair(p.asked, place);
    row = p.focal.words.start(text);
    length = static_cast<int>(p.focal.words.start(text + 1) - row);
  }
  int words_to_here = length;
  for (int step = 1; step < kLanes; step *= 2) {
    const int before = __shfl_up_sync(kAllLanes, words_to_here, step);
    if (lane >= step) words_to_here += before;
  }
  const bool taken = first + lane < last && words_to_here <= p.sizes.words;
  const unsigned with_words = __ballot_sync(kAllLanes, taken && length > 0);
  const int count = __popc(__ballot_sync(kAllLanes, taken));
  const int n_words = __shfl_sync(kAllLanes, words_to_here, count - 1);
  if (taken && length == 0) p.focal.scores[place] = -INFINITY;
  if (taken && length > 0) {
    const int slot = __popc(with_words & ((1u << lane) - 1u)), start = words_to_here - length;
    texts.place[slot] = place;
    texts.number[slot] = text;
    texts.word_start[slot] = start;
    for (int w = 0; w < length; ++w) texts.word_row[start + w] = row + w;
  }
  if (lane == 0) {
    texts.next = first + count;
    texts.n_texts = __popc(with_words);
    texts.n_words = n_words;
    texts.alone = by_pair && texts.n_texts == 1 ? text : -1;
    texts.word_start[texts.n_texts] = n_words;
  }
}

// Eight elements of a region as an operand of the product, and the storage of the other.
template <Storage storage>
__device__ __forceinline__ Sixteen eight_of(const unsigned char* at) {
  if constexpr (storage == Storage::i8) {
    const uint2 bytes = *reinterpret_cast<const uint2*>(at);
    Sixteen halves;
    halves_of_bytes(bytes.x, halves.word[0], halves.word[1]);
    halves_of_bytes(bytes.y, halves.word[2], halves.word[3]);
    return halves;
  } else {
    return *reinterpret_cast<const Sixteen*>(at);
  }
}
template <Storage storage>
constexpr Storage operand_for = storage == Storage::i8 ? Storage::f16 : storage;

// |v| of the image's regions, four a warp at a time. Those of int8 still lack their scales.
template <Storage storage>
__device__ __forceinline__ void measure_regions(const Parameters& p, const unsigned char* image, int m, Texts& texts) {
  constexpr int kAtOnce = 4;
  const int lane = threadIdx.x % kLanes, warp = Team::thread() / kLanes;
  const int dim = static_cast<int>(p.focal.regions.dim);
  for (int first = warp * kAtOnce; first < m; first += kTeamWarps * kAtOnce) {
    float squares[kAtOnce] = {};
    for (int column = lane * 8; column < dim; column += kLanes * 8)
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int row = first + k < m ? first + k : m - 1;
        const Wide<operand_for<storage>> wide(
            eight_of<storage>(image + row * p.sizes.region_pitch + column * element_size(storage)));
        HA_UNROLL
        for (int e = 0; e < 8; ++e) squares[k] += wide.x[e] * wide.x[e];
      }
    warp_sums(squares);
    HA_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      if (lane == k && first + k < m) texts.region_lengths[first + k] = sqrtf(squares[k]);
  }
}

// |s| of the tile's words, four words a warp at a time: they may come from device memory, and the first product waits
// for them. Words that were int8 have scales.
template <Storage storage>
__device__ __forceinline__ void find_lengths(const Parameters& p, Texts& texts) {
  constexpr int kAtOnce = 4;
  const Rows& words = p.focal.words;
  const auto scale_of_word = [&](int w) {
    return p.word_scales == nullptr ? 1.0f : p.word_scales[texts.word_row[w]];
  };
  for (int w = Team::thread(); w < texts.n_words; w += Team::kSize) {
    texts.scales[w] = scale_of_word(w);
    if (p.focal.word_lengths != nullptr) texts.lengths[w] = p.focal.word_lengths[texts.word_row[w]];
  }
  if (p.focal.word_lengths != nullptr || p.focal.direction == Direction::i2t) return;
  const int lane = threadIdx.x % kLanes, warp = Team::thread() / kLanes;
  for (int first = warp * kAtOnce; first < texts.n_words; first += kTeamWarps * kAtOnce) {
    float squares[kAtOnce] = {};
    for (int64_t column = lane * 8; column < words.dim; column += 2 * kLanes * 8) {
      Sixteen piece[kAtOnce][2];
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const auto* row = row_of<storage>(words, texts.word_row[first + k < texts.n_words ? first + k : first]) + column;
        HA_UNROLL
        for (int i = 0; i < 2; ++i)
          piece[k][i] = column + i * kLanes * 8 < words.dim ? *reinterpret_cast<const Sixteen*>(row + i * kLanes * 8)
                                                            : Sixteen{};
      }
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const Wide<storage> wide(piece[k][i]);
          HA_UNROLL
          for (int e = 0; e < 8; ++e) squares[k] += wide.x[e] * wide.x[e];
        }
    }
    warp_sums(squares);
    HA_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      if (lane == k && first + k < texts.n_words)
        texts.lengths[first + k] = sqrtf(squares[k]) * fabsf(scale_of_word(first + k));
  }
}

// A packed triangle of m rows into the upper triangle of a square in shared memory, in the background. What is below the
// diagonal stays zero.
__device__ __forceinline__ void bring_triangle(const float* packed, int m, float* square, int pitch) {
  const int lane = threadIdx.x % kLanes;
  HA_NO_UNROLL
  for (int r = Team::thread() / kLanes; r < m; r += kTeamWarps) {
    const float* row = packed + r * m - r * (r - 1) / 2;  // of m - r numbers: triangle_row
    float* to = square + r * pitch + r;
    HA_UNROLL
    for (int i = 0; i < kWarpContexts; i += kLanes)
      if (i + lane < m - r) copy_async_word(to + i + lane, row + i + lane);
  }
}

// The texts of the next tile, from `entry` on; returns the entry after them. For i2t their factors come in the
// background, in squares along the diagonal of one. A pair whose text was alone in the tile before finds everything as
// it left it.
template <Storage storage, bool kI2t>
__device__ __forceinline__ int64_t next_texts(const Parameters& p, int64_t entry, int64_t last, Texts& texts,
                                              float* factors) {
  const bool by_pair = p.asked.by_image.order == nullptr;
  if (by_pair && text_of_pair(p.asked, entry) == texts.alone) {
    if (Team::thread() == 0) texts.place[0] = entry;  // which that thread alone reads
    return entry + 1;
  }
  Team::sync();  // the tile before is no longer read
  if (Team::thread() < kLanes) list_texts(p, entry, last, texts);
  Team::sync();
  if constexpr (kI2t) {
    const int pitch = p.sizes.text_factor_pitch();
    for (int text = 0; text < texts.n_texts; ++text) {
      const int start = texts.word_start[text], n = texts.word_start[text + 1] - start;
      bring_triangle(p.focal.text_factors.values + p.focal.text_factors.offsets[texts.number[text]], n,
                     factors + start * (pitch + 1), pitch);
    }
    copy_commit();
  }
  find_lengths<storage>(p, texts);
  return texts.next;
}

// This warp's quarter of the product of the regions in `image` with the words of the tile, into `partial`.
// `wait_for_image` is called when the first words are under way.
template <Storage storage, int kWordFragments, class Wait>
__device__ __forceinline__ void multiply_quarter(const Parameters& p, const unsigned char* image, int m,
                                                 const Texts& texts, float* partial, Wait wait_for_image) {
  constexpr int kChunksAhead = kWordFragments <= 2 ? 4 : 3;  // of words under way; more would not fit the registers
  const int warp = Team::thread() / kLanes, lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const int chunks = static_cast<int>(p.focal.words.dim) / kChunkColumns;
  int rows[kRegionFragments][2];
  HA_UNROLL
  for (int i = 0; i < kRegionFragments; ++i)
    HA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = i * 16 + half * 8 + g;
      rows[i][half] = (row < m ? row : m - 1) * p.sizes.region_pitch + t * 8 * element_size(storage);
    }
  const unsigned char* words[kWordFragments];
  HA_UNROLL
  for (int j = 0; j < kWordFragments; ++j) {
    const int word = 8 * j + g < texts.n_words ? 8 * j + g : texts.n_words - 1;
    words[j] = reinterpret_cast<const unsigned char*>(
                   row_of<operand_for<storage>>(p.focal.words, texts.word_row[word])) + t * 16;
  }
  Sixteen b[kChunksAhead][kWordFragments];
  const auto load = [&](int i, int chunk) {
    if (chunk >= chunks) return;
    HA_UNROLL
    for (int j = 0; j < kWordFragments; ++j)
      b[i][j] = *reinterpret_cast<const Sixteen*>(words[j] + chunk * 64);
  };
  HA_UNROLL
  for (int i = 0; i < kChunksAhead; ++i) load(i, warp + i * kTeamWarps);
  wait_for_image();
  float c[kRegionFragments][kWordFragments][4] = {};
  for (int first = warp; first < chunks; first += kChunksAhead * kTeamWarps) {
    HA_UNROLL
    for (int i = 0; i < kChunksAhead; ++i) {
      const int chunk = first + i * kTeamWarps;
      if (chunk >= chunks) break;
      // All fragments, also where the last rows or words only repeat: branches would keep the loads from overlapping.
      Sixteen low[kRegionFragments], high[kRegionFragments];
      HA_UNROLL
      for (int r = 0; r < kRegionFragments; ++r) {
        low[r] = eight_of<storage>(image + rows[r][0] + chunk * kChunkColumns * element_size(storage));
        high[r] = eight_of<storage>(image + rows[r][1] + chunk * kChunkColumns * element_size(storage));
      }
      HA_UNROLL
      for (int step = 0; step < 2; ++step)
        HA_UNROLL
        for (int r = 0; r < kRegionFragments; ++r) {
          const uint32_t a[4] = {low[r].word[2 * step], high[r].word[2 * step], low[r].word[2 * step + 1],
                                 high[r].word[2 * step + 1]};
          HA_UNROLL
          for (int j = 0; j < kWordFragments; ++j) {
            const uint32_t of_word[2] = {b[i][j].word[2 * step], b[i][j].word[2 * step + 1]};
            if constexpr (operand_for<storage> == Storage::f16) {
              mma_f16(c[r][j], a, of_word);
            } else {
              mma_bf16(c[r][j], a, of_word);
            }
          }
        }
      load(i, chunk + kChunksAhead * kTeamWarps);
    }
  }
  partial += warp * p.sizes.partial_floats();
  HA_UNROLL
  for (int r = 0; r < kRegionFragments; ++r)
    HA_UNROLL
    for (int j = 0; j < kWordFragments; ++j)
      HA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = r * 16 + half * 8 + g;
        if (row >= m) continue;
        float* to = partial + row * p.sizes.partial_pitch + 8 * j + 2 * t;
        to[0] = c[r][j][2 * half];
        to[1] = c[r][j][2 * half + 1];
      }
}

// Adds the quarters, and for t2i finds the logits: two lanes a text and region, each every other word of it.
template <Storage storage>
__device__ __forceinline__ void add_quarters(const Parameters& p, int m, const Texts& texts, float* quarters) {
  constexpr int kLanesOfPair = 2, kAtOnce = kTeamThreads / kLanesOfPair;
  const int partial = p.sizes.partial_floats();
  for (int first = 0; first < m * texts.n_texts; first += kAtOnce) {
    const bool exists = first + Team::thread() / kLanesOfPair < m * texts.n_texts;
    const int i = exists ? first + Team::thread() / kLanesOfPair : 0, text = i / m, region = i - text * m;
    const int start = texts.word_start[text], words = exists ? texts.word_start[text + 1] - start : 0;
    float* own = quarters + region * p.sizes.partial_pitch + start;
#pragma unroll 2
    for (int w = Team::thread() % kLanesOfPair; w < words; w += kLanesOfPair) {
      float sum = own[w];
      HA_UNROLL
      for (int quarter = 1; quarter < kTeamWarps; ++quarter) sum += own[quarter * partial + w];
      if (storage == Storage::i8) sum *= texts.region_scales[region] * texts.scales[start + w];
      own[w] = sum;
    }
    if (p.focal.direction == Direction::i2t) continue;
    const auto axis = query_axis_by_lanes<kLanesOfPair>(p.focal.settings, words, Column<const float>{own, 1});
    for (int w = Team::thread() % kLanesOfPair; w < words; w += kLanesOfPair)
      own[partial + w] = logit_of<float>(p.focal.settings, axis, own[w]);
  }
}

// Step 1 of i2t: four lanes a word, each every fourth region.
__device__ __forceinline__ void find_logits_of_words(const Parameters& p, int m, const Texts& texts,
                                                     const float* cosines, float* logits) {
  constexpr int kLanesOfWord = 4;
  static_assert(kTeamThreads / kLanesOfWord >= 32, "all words of a tile at once");
  const int word = Team::thread() / kLanesOfWord, pitch = p.sizes.partial_pitch;
  const int regions = word < texts.n_words ? m : 0;
  const Column<const float> column{cosines + word, pitch};
  const auto axis = query_axis_by_lanes<kLanesOfWord>(p.focal.settings, regions, column);
  for (int r = Team::thread() % kLanesOfWord; r < regions; r += kLanesOfWord)
    logits[r * pitch + word] = logit_of<float>(p.focal.settings, axis, column[r]);
}

template <Storage storage, int kWordFragments, bool kI2t>
__device__ __forceinline__ void score(const Parameters& p, const unsigned char* slots, Pipeline& pipeline, float* own,
                                      Texts& texts) {
  constexpr int kTeams = teams_for(kWordFragments);
  const Sizes& sizes = p.sizes;
  const FocalSettings& s = p.focal.settings;
  const int warp = Team::thread() / kLanes, lane = threadIdx.x % kLanes;
  float *quarters = own, *factor = quarters + sizes.quarters_floats(), *text_factors = factor + sizes.factor_floats();
  float *cosines = quarters, *logits = quarters + sizes.partial_floats();  // when the quarters have been added
  auto* weights = reinterpret_cast<float4*>(quarters + sizes.weights_at()) + warp * kWarpContexts;
  const bool t2i = !kI2t || p.focal.direction == Direction::both;
  if (Team::thread() == 0) texts.alone = -1;
  for (int i = Team::thread(); i < sizes.factor_floats() + sizes.text_factor_floats(); i += Team::kSize)
    factor[i] = 0.0f;
  Team::sync();

  uint32_t step = Team::number(), parity = 0;
  for (int64_t task = blockIdx.x + static_cast<int64_t>(step) * gridDim.x; task < p.tasks;
       task += kTeams * static_cast<int64_t>(gridDim.x), step += kTeams, parity ^= 1) {
    pipeline.known[Team::number()].wait(parity);
    const Image& image = pipeline.images[Team::number()];  // until the slot is free
    const int m = image.regions;
    const int64_t last = image.asked.last;
    const uint8_t* keep = p.focal.keep == nullptr ? nullptr : p.focal.keep + image.first_region;
    const unsigned char* regions = slots + step % kSlots * sizes.slot_bytes();
    const auto wait_for_image = [&] { pipeline.come[Team::number()].wait(parity); };
    const auto free_slot = [&] {
      __syncwarp();
      if (lane == 0) pipeline.freed[Team::number()].arrive();
    };
    if (m == 0) {
      wait_for_image();
      for (int64_t entry = image.asked.first + Team::thread(); entry < last; entry += Team::kSize)
        p.focal.scores[pair_at(p.asked, entry)] = -INFINITY;
      free_slot();
      continue;
    }
    bool is_new = true;
    for (int64_t entry = image.asked.first; entry < last;) {
      entry = next_texts<operand_for<storage>, kI2t>(p, entry, last, texts, text_factors);
      const bool is_last = entry == last;
      if (texts.n_words == 0) {  // only texts without words, which are scored
        if (is_last) {
          wait_for_image();
          free_slot();
        }
        continue;
      }
      float scale = 1.0f;
      if (storage == Storage::i8 && is_new && Team::thread() < m)
        scale = p.focal.regions.scales[image.first_region + Team::thread()];
      multiply_quarter<storage, kWordFragments>(p, regions, m, texts, quarters, [&] {
        if (is_new && t2i) {
          bring_triangle(p.focal.image_factors.values + image.factor, m, factor, sizes.factor_pitch);
          copy_commit();
        }
        wait_for_image();
      });
      if (is_new) {
        if (kI2t) measure_regions<storage>(p, regions, m, texts);
        if (storage == Storage::i8 && Team::thread() < m) texts.region_scales[Team::thread()] = scale;
      }
      copy_wait<0>();
      Team::sync();
      if (is_last) free_slot();
      add_quarters<storage>(p, m, texts, quarters);
      Team::sync();
      if (t2i) {
        const Attending words{logits, cosines, sizes.partial_pitch, 1, m,
                              keep, factor, sizes.factor_pitch, texts.lengths, texts.n_words, texts.results};
        for (int word = warp * kQueriesAtOnce; word < words.queries; word += kTeamWarps * kQueriesAtOnce)
          attend_by_warp(s, words, word, weights);
        Team::sync();
        for (int text = warp; text < texts.n_texts; text += kTeamWarps) {
          const int start = texts.word_start[text];
          const float score = aggregate_by_warp(s, texts.word_start[text + 1] - start, texts.results + start);
          if (lane == 0) (kI2t ? texts.scores[text] : p.focal.scores[texts.place[text]]) = score;
        }
      }
      if constexpr (kI2t) {
        float* results = quarters + sizes.results_at();
        find_logits_of_words(p, m, texts, cosines, logits);
        if (storage == Storage::i8 && is_new && Team::thread() < m)
          texts.region_lengths[Team::thread()] *= fabsf(texts.region_scales[Team::thread()]);
        Team::sync();
        const int batches = (m + kQueriesAtOnce - 1) / kQueriesAtOnce;
        for (int i = warp; i < texts.n_texts * batches; i += kTeamWarps) {
          const int text = i / batches, start = texts.word_start[text], pitch = sizes.text_factor_pitch();
          const Attending of_text{logits + start, cosines + start, 1, sizes.partial_pitch,
                                  texts.word_start[text + 1] - start, nullptr, text_factors + start * (pitch + 1),
                                  pitch, texts.region_lengths, m, results + text * m};
          attend_by_warp(s, of_text, (i - text * batches) * kQueriesAtOnce, weights);
        }
        Team::sync();
        for (int text = warp; text < texts.n_texts; text += kTeamWarps) {
          const float score = aggregate_by_warp(s, m, results + text * m);
          if (lane == 0) p.focal.scores[texts.place[text]] = t2i ? texts.scores[text] + score : score;
        }
        Team::sync();  // the results are where quarters come next
      }
      is_new = false;
    }
    copy_wait<0>();
  }
}

#endif

template <Storage storage, int kWordFragments, bool kI2t>
__global__ void __launch_bounds__(threads_for(kWordFragments), 1)
    focal_pairs_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kTeams = teams_for(kWordFragments);
  HA_SHARED_MEMORY(shared);
  float* teams = reinterpret_cast<float*>(shared + kSlots * p.sizes.slot_bytes());
  auto* texts = reinterpret_cast<Texts*>(teams + kTeams * p.sizes.team_floats());
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(texts + kTeams);
  if (threadIdx.x == 0) {
    for (int team = 0; team < kMaxTeams; ++team) {
      pipeline.known[team].start(1);
      pipeline.come[team].start(1);
      pipeline.freed[team].start(kTeamWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kTeams * kTeamThreads) {
    grow_registers<team_registers_for(kWordFragments)>();
    const int team = Team::number();
    score<storage, kWordFragments, kI2t>(p, shared, pipeline, teams + team * p.sizes.team_floats(), texts[team]);
  } else {
    shrink_registers<kFeedRegisters>();
    if (threadIdx.x < kTeams * kTeamThreads + kLanes) feed<storage, kTeams>(p, shared, pipeline);
  }
#endif
}

constexpr int kSharedBytes = 227 * 1024;

Sizes sizes_for(int words, int64_t max_regions, const FocalParameters& p) {
  const int regions = static_cast<int>(std::max<int64_t>(max_regions, 1));
  const int row_bytes = static_cast<int>(p.regions.dim) * element_size(p.regions.storage);
  // Eight rows, or four of int8, are read at once: they start at different banks.
  const int apart = p.regions.storage == Storage::i8 ? 32 : 64;
  const int pitch = row_bytes + (row_bytes % (2 * apart) == 0 ? apart : 0);
  return {words, regions, pitch, regions | 1, words + 9, p.direction != Direction::t2i};
}

int64_t shared_bytes(const Sizes& sizes) {
  const int64_t of_team = sizes.team_floats() * sizeof(float) + sizeof(Texts);
  return int64_t{kSlots} * sizes.slot_bytes() + teams_for(sizes.words / 8) * of_team + sizeof(Pipeline);
}

template <Storage storage, int kWordFragments>
void (*kernel_for(Direction direction))(Parameters) {
  return direction == Direction::t2i ? focal_pairs_kernel<storage, kWordFragments, false>
                                     : focal_pairs_kernel<storage, kWordFragments, true>;
}
template <Storage storage>
void (*kernel_for(Direction direction, int words))(Parameters) {
  return words == 16 ? kernel_for<storage, 2>(direction) : kernel_for<storage, 4>(direction);
}

}  // namespace

bool score_focal_pairs(const Device& device, const FocalParameters& p, const Tensor& candidates, const Tensor& words,
                       int64_t max_regions) {
  const Rows &r = p.regions, &w = p.words;
  const bool bytes = r.storage == Storage::i8;
  const bool fits = r.storage != Storage::f32 && (bytes || r.storage == w.storage) && r.aligned &&
                    (w.aligned || w.storage == Storage::i8) && r.dim % kChunkColumns == 0 && r.dim >= 64 &&
                    r.dim <= 4096 && max_regions <= kRegions && p.max_words <= 32;
  if (!chosen(device) || !fits) return false;
  Parameters parameters{};
  parameters.focal = p;
  // 32 words where several texts share an image or one needs them, and shared memory has the room.
  const bool one_text = candidates.size(0) == 1;
  int tile = one_text && p.max_words <= 16 ? 16 : 32;
  if (shared_bytes(sizes_for(tile, max_regions, p)) > kSharedBytes && p.max_words <= 16) tile = 16;
  parameters.sizes = sizes_for(tile, max_regions, p);
  if (shared_bytes(parameters.sizes) > kSharedBytes) return false;

  Maybe order_memory, length_memory, word_memory;
  parameters.asked = {static_cast<const int64_t*>(candidates.const_data_ptr()), candidates.size(1),
                      candidates.size(0) * candidates.size(1),
                      order_if_worth_it(device, candidates, std::nullopt, std::nullopt, r.items, p.scores,
                                        order_memory)};
  parameters.tasks = parameters.asked.by_image.order == nullptr ? parameters.asked.pairs
                                                                : std::min(parameters.asked.pairs, r.items);
  if (!one_text && p.direction != Direction::i2t) {
    length_memory = lengths_of(device, words, w);
    parameters.focal.word_lengths = data_of<float>(length_memory);
  }
  if (w.storage == Storage::i8) {  // float16 holds them exactly; their scales meet the sums
    Rows unscaled = w;
    unscaled.scales = nullptr;
    parameters.focal.words = words_for(device, Storage::f16, words, unscaled, word_memory);
    parameters.word_scales = w.scales;
  }
  const auto kernel = bytes                       ? kernel_for<Storage::i8>(p.direction, tile)
                      : r.storage == Storage::f16 ? kernel_for<Storage::f16>(p.direction, tile)
                                                  : kernel_for<Storage::bf16>(p.direction, tile);
  device.launch(kernel, std::min<int64_t>(parameters.tasks, device.multiprocessors()), threads_for(tile / 8),
                shared_bytes(parameters.sizes), parameters);
  return true;
}

}  // namespace heritage_align::hopper
