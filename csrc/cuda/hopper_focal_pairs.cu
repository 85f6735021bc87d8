// Focal attention (t2i) of candidate lists on Hopper. An image's regions are read once, and that is the cost: 36
// regions of 1024 float16 are 74 KB, which a 132nd of an H100's memory brings in 3.2 microseconds. So each
// multiprocessor has one block that never stops reading: a feeding warp brings the images of its tasks to shared memory
// by bulk copies, one a row, and teams of four warps take turns to score them.
//
// A team's four warps share the product by dim: each has all regions (A, from shared memory; 64 bytes between the rows'
// banks) and all words (B, straight from device memory, that is, L2) for a quarter of it; the quarters are then added.
// As in rerank.cuh a lane takes 16 neighbouring bytes of its row for both operands. Then come the three steps of
// epilogue/focal_attention.h; the second and third by warps (attended_by_warp.cuh). All that does not need the image is
// under way before the team waits for it: ids, words, the factor R.
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
  return teams_for(word_fragments) * kTeamThreads + kLanes;  // the last warp feeds
}

struct Sizes {
  int words;          // of a tile: 16 or 32
  int regions;        // of an image, at most
  int region_pitch;   // bytes between the rows of an image: 64 more than a multiple of 128
  int factor_pitch;   // floats
  int partial_pitch;  // floats: a quad's stores and its neighbours' meet different banks
  int tile_pitch;     // floats: odd

  __host__ __device__ int slot_bytes() const { return regions * region_pitch; }
  // Of a team: the quarters of the product, then, in their place, logits and weights; cosines; R.
  __host__ __device__ int partial_floats() const { return regions * partial_pitch; }
  __host__ __device__ int quarters_floats() const {
    const int later = tile_floats() + kTeamWarps * kWarpContexts * 4;
    return later > kTeamWarps * partial_floats() ? later : kTeamWarps * partial_floats();
  }
  __host__ __device__ int tile_floats() const { return (regions * tile_pitch + 3) / 4 * 4; }
  __host__ __device__ int factor_floats() const { return (regions * factor_pitch + 3) / 4 * 4; }
  __host__ __device__ int team_bytes() const { return (quarters_floats() + tile_floats() + factor_floats()) * 4; }
};

struct Parameters {
  FocalParameters focal;
  Asked asked;
  int64_t tasks;
  Sizes sizes;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Image {
  AskedImage asked;
  int64_t first_region, factor;
  int regions;
};

__device__ __forceinline__ Image image_of(const Parameters& p, int64_t task) {
  Image image{asked_image(p.asked, task, p.focal.regions.items), 0, 0, 0};
  if (image.asked.image >= 0) {
    image.factor = p.focal.image_factors.offsets[image.asked.image];
    image.first_region = p.focal.regions.start(image.asked.image);
    image.regions = static_cast<int>(p.focal.regions.start(image.asked.image + 1) - image.first_region);
  }
  return image;
}

// Of each team: whether its image has come, and whether it has freed the slot again. The image of step s is in slot
// s % kSlots, for team s % teams; by team and not by slot, so that a barrier is never two phases ahead of who waits.
struct Pipeline {
  Barrier come[kMaxTeams], freed[kMaxTeams];
};

// The texts of a tile, as Tile in tasks.cuh.
struct Texts {
  int64_t next;   // the entry after those of this tile
  int64_t alone;  // the text that is alone in the tile and measured, or -1
  int n_texts, n_words;
  int64_t place[32];
  int64_t word_row[32];
  int word_start[33];
  float lengths[32];
  float results[32];
};

struct Team {
  static constexpr int kSize = kTeamThreads;
  __device__ static int number() { return threadIdx.x / kTeamThreads; }
  __device__ static int thread() { return threadIdx.x % kTeamThreads; }
  __device__ static void sync() { named_barrier<kTeamThreads>(1 + number()); }
};

// Where the rows of an image are.
__device__ __forceinline__ const unsigned char* rows_of_image(const Parameters& p, const Image& image) {
  const Rows& regions = p.focal.regions;
  return static_cast<const unsigned char*>(regions.values) + image.first_region * regions.stride * 2;
}

// By one warp. While teams score, no slot may be free; so that device memory is read all the same, the image that comes
// when a slot is freed is asked into the L2 as soon as the one before it is under way (two for each multiprocessor: of
// 36 x 1024, 20 MB in all).
template <int kTeams>
__device__ __forceinline__ void feed(const Parameters& p, unsigned char* slots, Pipeline& pipeline) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row_pitch = p.focal.regions.stride * 2;
  const auto row_bytes = static_cast<uint32_t>(p.focal.regions.dim * 2);
  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x, ++step) {
    const Image image = image_of(p, task);
    const int slot = step % kSlots;
    const int64_t before = step - kSlots;  // who had the slot
    if (before >= 0) pipeline.freed[before % kTeams].wait(before / kTeams & 1);
    Barrier& come = pipeline.come[step % kTeams];
    if (lane == 0) come.arrive_expecting(image.regions * row_bytes);
    __syncwarp();
    const unsigned char* from = rows_of_image(p, image);
    for (int r = lane; r < image.regions; r += kLanes)
      copy_bulk(slots + slot * p.sizes.slot_bytes() + r * p.sizes.region_pitch, from + r * row_pitch, row_bytes, come);
    const int64_t later = task + kSlots * static_cast<int64_t>(gridDim.x);
    if (later < p.tasks) {
      const Image coming = image_of(p, later);
      for (int r = lane; r < coming.regions; r += kLanes) ask_into_l2(rows_of_image(p, coming) + r * row_pitch, row_bytes);
    }
  }
}

// Lists the texts of the entries first .. last for which the tile has room; by the first warp of a team.
__device__ __forceinline__ void list_texts(const Parameters& p, int64_t first, int64_t last, Texts& texts) {
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
    texts.word_start[slot] = start;
    for (int w = 0; w < length; ++w) texts.word_row[start + w] = row + w;
  }
  if (lane == 0) {
    texts.next = first + count;
    texts.n_texts = __popc(with_words);
    texts.n_words = n_words;
    texts.word_start[texts.n_texts] = n_words;
  }
}

// |s| of the tile's words, four words a warp at a time: they may come from device memory, and the first product waits
// for them.
template <Storage storage>
__device__ __forceinline__ void find_lengths(const Parameters& p, Texts& texts) {
  constexpr int kAtOnce = 4;
  const Rows& words = p.focal.words;
  if (p.focal.word_lengths != nullptr) {
    for (int w = Team::thread(); w < texts.n_words; w += Team::kSize)
      texts.lengths[w] = p.focal.word_lengths[texts.word_row[w]];
    return;
  }
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
      if (lane == k && first + k < texts.n_words) texts.lengths[first + k] = sqrtf(squares[k]);
  }
}

// The texts of the next tile, from `entry` on; ends with a barrier. A pair whose text was alone in the tile before
// finds everything as it left it.
template <Storage storage>
__device__ __forceinline__ void next_texts(const Parameters& p, int64_t entry, int64_t last, Texts& texts) {
  const bool by_pair = p.asked.by_image.order == nullptr;
  const int64_t text = by_pair ? text_of_pair(p.asked, entry) : -1;
  Team::sync();  // the tile before is no longer read
  if (by_pair && text == texts.alone) {
    Team::sync();  // all have seen that
    if (Team::thread() == 0) {
      texts.place[0] = entry;
      texts.next = entry + 1;
    }
    Team::sync();
    return;
  }
  if (Team::thread() < kLanes) list_texts(p, entry, last, texts);
  Team::sync();
  find_lengths<storage>(p, texts);
  if (Team::thread() == 0) texts.alone = by_pair && texts.n_texts == 1 ? text : -1;
}

// R into the upper triangle of a square in shared memory, in the background. What is below the diagonal stays zero.
__device__ __forceinline__ void bring_factor(const Parameters& p, const Image& image, float* square) {
  const float* packed = p.focal.image_factors.values + image.factor;
  const int lane = threadIdx.x % kLanes, m = image.regions;
  for (int r = Team::thread() / kLanes; r < m; r += kTeamWarps) {
    const float* row = packed + r * m - r * (r - 1) / 2;  // of m - r numbers: triangle_row
    float* to = square + r * p.sizes.factor_pitch + r;
    HA_UNROLL
    for (int i = 0; i < kWarpContexts; i += kLanes)
      if (i + lane < m - r) copy_async_word(to + i + lane, row + i + lane);
  }
  copy_commit();
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
      rows[i][half] = (row < m ? row : m - 1) * p.sizes.region_pitch + t * 16;
    }
  const unsigned char* words[kWordFragments];
  HA_UNROLL
  for (int j = 0; j < kWordFragments; ++j) {
    const int word = 8 * j + g < texts.n_words ? 8 * j + g : texts.n_words - 1;
    words[j] = reinterpret_cast<const unsigned char*>(row_of<storage>(p.focal.words, texts.word_row[word])) + t * 16;
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
        low[r] = *reinterpret_cast<const Sixteen*>(image + rows[r][0] + chunk * 64);
        high[r] = *reinterpret_cast<const Sixteen*>(image + rows[r][1] + chunk * 64);
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
            if constexpr (storage == Storage::f16) {
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

// Step 1 for the tile's texts and an image: a thread a text and region.
__device__ __forceinline__ void find_logits(const Parameters& p, int m, const Texts& texts,
                                            const float* __restrict__ cosines, float* __restrict__ logits) {
  for (int i = Team::thread(); i < m * texts.n_texts; i += Team::kSize) {
    const int text = i / m, region = i - text * m, start = texts.word_start[text];
    const int words = texts.word_start[text + 1] - start, at = region * p.sizes.tile_pitch + start;
    const Column<const float> column{cosines + at, 1};
    const auto axis = query_axis<float>(p.focal.settings, words, column);
    for (int w = 0; w < words; ++w) logits[at + w] = logit_of<float>(p.focal.settings, axis, column[w]);
  }
}

template <Storage storage, int kWordFragments>
__device__ __forceinline__ void score(const Parameters& p, const unsigned char* slots, Pipeline& pipeline, float* own,
                                      Texts& texts) {
  constexpr int kTileWords = 8 * kWordFragments, kTeams = teams_for(kWordFragments);
  const Sizes& sizes = p.sizes;
  const FocalSettings& s = p.focal.settings;
  const int warp = Team::thread() / kLanes, lane = threadIdx.x % kLanes;
  float *quarters = own, *cosines = quarters + sizes.quarters_floats(), *factor = cosines + sizes.tile_floats();
  float* logits = quarters;  // when the quarters have been added
  auto* weights = reinterpret_cast<float4*>(logits + sizes.tile_floats()) + warp * kWarpContexts;
  if (Team::thread() == 0) texts.alone = -1;
  for (int i = Team::thread(); i < sizes.factor_floats(); i += Team::kSize) factor[i] = 0.0f;

  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x, ++step) {
    if (step % kTeams != Team::number()) continue;
    const Image image = image_of(p, task);
    const int slot = step % kSlots, m = image.regions;
    const auto wait_for_image = [&] { pipeline.come[step % kTeams].wait(step / kTeams & 1); };
    const auto free_slot = [&] {
      __syncwarp();
      if (lane == 0) pipeline.freed[step % kTeams].arrive();
    };
    if (m == 0) {
      wait_for_image();
      for (int64_t entry = image.asked.first + Team::thread(); entry < image.asked.last; entry += Team::kSize)
        p.focal.scores[pair_at(p.asked, entry)] = -INFINITY;
      free_slot();
      continue;
    }
    bool factor_is_here = false;
    for (int64_t entry = image.asked.first; entry < image.asked.last;) {
      next_texts<storage>(p, entry, image.asked.last, texts);
      if (entry == image.asked.first) bring_factor(p, image, factor);  // after the barriers that end its last use
      entry = texts.next;
      const bool is_last = entry == image.asked.last;
      const int n = texts.n_words;
      if (n == 0) {  // only texts without words, which are scored
        if (is_last) {
          wait_for_image();
          free_slot();
        }
        continue;
      }
      multiply_quarter<storage, kWordFragments>(p, slots + slot * sizes.slot_bytes(), m, texts, quarters,
                                                wait_for_image);
      Team::sync();
      if (is_last) free_slot();
      for (int i = Team::thread(); i < m * kTileWords; i += Team::kSize) {
        const int region = i / kTileWords, word = i % kTileWords, at = region * sizes.partial_pitch + word;
        float sum = quarters[at];
        HA_UNROLL
        for (int w = 1; w < kTeamWarps; ++w) sum += quarters[w * sizes.partial_floats() + at];
        cosines[region * sizes.tile_pitch + word] = sum;
      }
      Team::sync();
      find_logits(p, m, texts, cosines, logits);
      if (!factor_is_here) copy_wait<0>();
      factor_is_here = true;
      Team::sync();
      for (int word = warp * kWordsAtOnce; word < n; word += kTeamWarps * kWordsAtOnce)
        attend_by_warp(s, m, logits, cosines, sizes.tile_pitch,
                       p.focal.keep == nullptr ? nullptr : p.focal.keep + image.first_region, factor,
                       sizes.factor_pitch, texts.lengths, word, n, weights, texts.results);
      Team::sync();
      for (int text = warp; text < texts.n_texts; text += kTeamWarps) {
        const int start = texts.word_start[text];
        const float score = aggregate_by_warp(s, texts.word_start[text + 1] - start, texts.results + start);
        if (lane == 0) p.focal.scores[texts.place[text]] = score;
      }
    }
    if (!factor_is_here) copy_wait<0>();
  }
}

#endif

template <Storage storage, int kWordFragments>
__global__ void __launch_bounds__(threads_for(kWordFragments), 1)
    focal_pairs_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  HA_SHARED_MEMORY(shared);
  float* teams = reinterpret_cast<float*>(shared + kSlots * p.sizes.slot_bytes());
  auto* texts = reinterpret_cast<Texts*>(reinterpret_cast<unsigned char*>(teams) +
                                         teams_for(kWordFragments) * p.sizes.team_bytes());
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(texts + teams_for(kWordFragments));
  if (threadIdx.x == 0) {
    for (int team = 0; team < kMaxTeams; ++team) {
      pipeline.come[team].start(1);
      pipeline.freed[team].start(kTeamWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < teams_for(kWordFragments) * kTeamThreads) {
    const int team = Team::number();
    score<storage, kWordFragments>(p, shared, pipeline, teams + team * (p.sizes.team_bytes() / 4), texts[team]);
  } else {
    feed<teams_for(kWordFragments)>(p, shared, pipeline);
  }
#endif
}

constexpr int kListBytes = 3 * 1024 + 128;  // Texts of every team, and Pipeline
constexpr int kSharedBytes = 227 * 1024;

Sizes sizes_for(int words, int64_t max_regions, int64_t dim) {
  const int regions = static_cast<int>(std::max<int64_t>(max_regions, 1)), row_bytes = static_cast<int>(dim) * 2;
  return {words, regions, row_bytes + (row_bytes % 128 == 0 ? 64 : 0), regions | 1, words + 8, words + 1};
}

int64_t shared_bytes(const Sizes& sizes) {
  return int64_t{kSlots} * sizes.slot_bytes() + int64_t{teams_for(sizes.words / 8)} * sizes.team_bytes() +
         kListBytes;
}

}  // namespace

bool score_focal_pairs(const Device& device, const FocalParameters& p, const Tensor& candidates, const Tensor& words,
                       int64_t max_regions) {
  const Rows &r = p.regions, &w = p.words;
  const bool fits = p.direction == Direction::t2i && (r.storage == Storage::f16 || r.storage == Storage::bf16) &&
                    r.storage == w.storage && r.aligned && w.aligned && r.dim % kChunkColumns == 0 && r.dim >= 64 &&
                    r.dim <= 4096 && max_regions <= kRegions && p.max_words <= 32;
  if (!chosen(device) || !fits) return false;
  Parameters parameters{};
  parameters.focal = p;
  // 32 words where several texts share an image or one needs them, and shared memory has the room.
  const bool one_text = candidates.size(0) == 1;
  int tile = one_text && p.max_words <= 16 ? 16 : 32;
  if (shared_bytes(sizes_for(tile, max_regions, r.dim)) > kSharedBytes && p.max_words <= 16) tile = 16;
  parameters.sizes = sizes_for(tile, max_regions, r.dim);
  if (shared_bytes(parameters.sizes) > kSharedBytes) return false;

  Maybe order_memory, length_memory;
  parameters.asked = {static_cast<const int64_t*>(candidates.const_data_ptr()), candidates.size(1),
                      candidates.size(0) * candidates.size(1),
                      order_if_worth_it(device, candidates, std::nullopt, std::nullopt, r.items, p.scores,
                                        order_memory)};
  parameters.tasks = parameters.asked.by_image.order == nullptr ? parameters.asked.pairs
                                                                : std::min(parameters.asked.pairs, r.items);
  if (!one_text) {
    length_memory = lengths_of(device, words, w);
    parameters.focal.word_lengths = data_of<float>(length_memory);
  }
  const int64_t blocks = std::min<int64_t>(parameters.tasks, device.multiprocessors());
  const auto launch = [&](void (*kernel)(Parameters)) {
    device.launch(kernel, blocks, threads_for(tile / 8), shared_bytes(parameters.sizes), parameters);
  };
  if (r.storage == Storage::f16) {
    launch(tile == 16 ? focal_pairs_kernel<Storage::f16, 2> : focal_pairs_kernel<Storage::f16, 4>);
  } else {
    launch(tile == 16 ? focal_pairs_kernel<Storage::bf16, 2> : focal_pairs_kernel<Storage::bf16, 4>);
  }
  return true;
}

}  // namespace heritage_align::hopper
