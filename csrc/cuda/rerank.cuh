// Patch-weighted similarity of candidate lists on tensor cores, for float16, bfloat16 and int8 patches. The patches'
// bytes are the cost (one multiply-add a byte), so everything serves one stream of reads: from device memory straight
// into the registers of the tensor cores' operands, each refilled as soon as they have taken it, so that every lane has
// its loads of 16 bytes under way at all times. The texts wait in shared memory as fragments of the other operand.
//
// mma.sync wants elements 2t, 2t + 1, 2t + 8, 2t + 9 of a step of 16 in lane 4g + t. A sum does not ask for the order
// of its terms: here that lane takes 16 neighbouring bytes of its row, in patches and texts alike, so that every load
// is 16 bytes wide and four lanes read 64 bytes of a row.
//
// Texts are not rounded to the dtype of the patches: one that does not fit it has two columns (or rows), its rounded
// value and what that leaves over.
//
//   rerank_pair_kernel    a block a pair: one query, or lists that hardly meet; the query is B
//   rerank_image_kernel   a block an image with all its texts (pairs.cuh), up to 32 at a time; the texts are A
#pragma once

#include "pairs.cuh"
#include "rows.cuh"

namespace heritage_align {

constexpr float kLeftOver = 2048.0f;  // what rounding to 11 bits leaves over, raised into the range of float16

struct RerankParameters {
  Asked asked;
  Rows queries, patches;
  Rows global;            // one row an image, to be mixed in; or values null
  PatchSettings settings;
  const float* weights;   // of the patches
  float* scores;
  int columns_of_text;    // 1 or 2; by image
  int fragments;          // of texts at a time, at most; by image
};

// The operand of the tensor cores that a patch's storage becomes, and how 16 bytes of a patch do.
template <Storage storage>
struct PatchOperand {
  static constexpr int kHalves = storage == Storage::i8 ? 2 : 1;  // groups of eight elements in 16 bytes

  // Words 0 .. 3 of eight elements as the tensor cores take them, two elements each.
  static __device__ __forceinline__ void eight(const Sixteen& piece, int half, uint32_t (&words)[4]) {
    if constexpr (storage == Storage::i8) {
      halves_of_bytes(piece.word[2 * half], words[0], words[1]);
      halves_of_bytes(piece.word[2 * half + 1], words[2], words[3]);
    } else {
      HA_UNROLL
      for (int i = 0; i < 4; ++i) words[i] = piece.word[i];
    }
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (storage == Storage::bf16) {
      mma_bf16(c, a, b);
    } else {
      mma_f16(c, a, b);
    }
  }
  // Eight numbers rounded to the operand's dtype; they become what that leaves over.
  static __device__ __forceinline__ Sixteen round(float (&x)[8]) {
    uint16_t rounded[8];
    HA_UNROLL
    for (int e = 0; e < 8; ++e) {
      rounded[e] = storage == Storage::bf16 ? bf16_of_float(x[e]) : f16_of_float(x[e]);
      x[e] = (x[e] - (storage == Storage::bf16 ? float_of_bf16(rounded[e]) : float_of_f16(rounded[e]))) * kLeftOver;
    }
    Sixteen packed;
    HA_UNROLL
    for (int i = 0; i < 4; ++i) packed.word[i] = rounded[2 * i] | static_cast<uint32_t>(rounded[2 * i + 1]) << 16;
    return packed;
  }
};

// Whether these kernels take such rows: whole pieces of 16 bytes, at multiples of 16 bytes.
inline bool fits_fragments(const Rows& patches, const Rows& queries) {
  return patches.storage != Storage::f32 && patches.aligned && patches.dim > 0 &&
         patches.dim * element_size(patches.storage) % 16 == 0 && queries.storage != Storage::i8 && queries.aligned;
}

inline Storage operand_of(Storage patches) { return patches == Storage::i8 ? Storage::f16 : patches; }

// Chunks of a row: four pieces of 16 bytes, one a lane of a quad. `whole`: batches of kAhead chunks have no rest.
__host__ __device__ inline int row_bytes_of(const Rows& patches) {
  return static_cast<int>(patches.dim) * element_size(patches.storage);
}
__host__ __device__ inline int chunks_of(const Rows& patches) { return (row_bytes_of(patches) + 63) / 64; }
inline bool whole_batches(const Rows& patches, int ahead) { return row_bytes_of(patches) % (64 * ahead) == 0; }

// A batch of a row: kAhead chunks, this lane's 16 bytes of each. `bytes` are left in the row from this lane's piece on.
template <bool kWhole>
__device__ __forceinline__ Sixteen load_chunk_piece(const unsigned char* at, int i, int bytes) {
  if (kWhole || i * 64 < bytes) return load_once(at + i * 64);
  return Sixteen{};
}

// The state of a warp's rows as seen by lane 4g + t, over g: the same in all eight lanes of that t.
__device__ __forceinline__ Pool<float> merge_rows(const PatchSettings& s, Pool<float> own) {
  const int lane = threadIdx.x % kLanes;
  HA_UNROLL
  for (int step = 4; step < kLanes; step *= 2) {
    const Pool<float> other{__shfl_xor_sync(kAllLanes, own.top, step), __shfl_xor_sync(kAllLanes, own.mass, step),
                            __shfl_xor_sync(kAllLanes, own.acc, step)};
    own = lane & step ? pool_merge(s, other, own) : pool_merge(s, own, other);
  }
  return own;
}

// One pair a block. A fragment has eight patches here, each in rows g and g + 8: words 0 and 2 of every 16 bytes in row
// g, words 1 and 3 in row g + 8, just as a load leaves them. Column 0 of the query has its part of the former, column 1
// that of the latter; columns 2 and 3 the same of what rounding leaves over. C[g][0] + C[g + 8][1] is the similarity.
constexpr int kPairWarps = 2;
constexpr int kPairThreads = kPairWarps * kLanes;
constexpr int kPairRows = 8;
constexpr int kPairAhead = 8;  // 8 patches by 512 bytes under way in every warp

struct QueryPiece {
  uint32_t b[2];
};

inline size_t rerank_pair_bytes(const Rows& patches) {
  return static_cast<size_t>(chunks_of(patches)) * (patches.storage == Storage::i8 ? 2 : 1) * 16 * sizeof(QueryPiece) +
         kPairWarps * sizeof(Pool<float>) + sizeof(float);
}

// Eight elements of the query are 16 pieces: of group i, column n of lane t is at (i * 4 + n) * 4 + t.
template <Storage storage>
__device__ __forceinline__ void stage_query(const RerankParameters& p, int64_t text, QueryPiece* query) {
  using Operand = PatchOperand<storage>;
  const int eights = chunks_of(p.patches) * 4 * Operand::kHalves;
  for (int i = threadIdx.x; i < eights; i += kPairThreads) {
    float x[8];
    read_elements(p.queries, text, int64_t{i} * 8, x);
    const int half = i % Operand::kHalves, t = i / Operand::kHalves % 4, chunk = i / Operand::kHalves / 4;
    QueryPiece* to = query + (chunk * Operand::kHalves + half) * 16 + t;
    HA_UNROLL
    for (int part = 0; part < 2; ++part) {
      const Sixteen rounded = Operand::round(x);
      to[part * 8] = {rounded.word[0], rounded.word[2]};
      to[part * 8 + 4] = {rounded.word[1], rounded.word[3]};
    }
  }
}

template <Storage storage, bool kWhole>
__global__ void __launch_bounds__(kPairThreads) rerank_pair_kernel(RerankParameters p) {
  using Operand = PatchOperand<storage>;
  HA_SHARED_MEMORY(shared);
  const int chunks = chunks_of(p.patches), row_bytes = row_bytes_of(p.patches);
  auto* query = reinterpret_cast<QueryPiece*>(shared);
  auto* pools = reinterpret_cast<Pool<float>*>(query + chunks * Operand::kHalves * 16);
  float* of_whole = reinterpret_cast<float*>(pools + kPairWarps);
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;

  const int64_t pair = blockIdx.x;
  const int64_t image = asked_image(p.asked, pair, p.patches.items).image;
  const int64_t first = image < 0 ? 0 : p.patches.start(image);
  const int64_t m = image < 0 ? 0 : p.patches.start(image + 1) - first;
  if (m == 0) {  // no such image, or one without patches
    if (threadIdx.x == 0) p.scores[pair] = -INFINITY;
    return;
  }

  const int64_t stride = p.patches.stride * element_size(storage);
  const auto* rows = static_cast<const unsigned char*>(p.patches.values) + first * stride + t * 16;
  const auto patch_of = [&](int64_t tile) { return tile + g < m ? tile + g : m - 1; };  // the last again behind the end
  int64_t tile = warp * kPairRows;
  const unsigned char* at = rows + patch_of(tile) * stride;
  float scale = scale_of(p.patches, first + patch_of(tile));
  float weight = p.weights == nullptr ? 0.0f : p.weights[first + patch_of(tile)];
  Sixteen piece[kPairAhead];
  HA_UNROLL
  for (int i = 0; i < kPairAhead; ++i) piece[i] = load_chunk_piece<kWhole>(at, i, row_bytes - t * 16);

  const int64_t text = text_of_pair(p.asked, pair);
  stage_query<storage>(p, text, query);
  if (p.global.values != nullptr && warp == 0) {
    const float whole = product_of_rows(p.queries, text, p.global, image, lane);
    if (lane == 0) *of_whole = whole;
  }
  __syncthreads();

  const QueryPiece* own = query + (g % 4) * 4 + t;
  Pool<float> pool = empty_pool(0.0f);
  while (tile < m) {
    const int64_t next_tile = tile + kPairWarps * kPairRows;
    float next_scale = 0.0f, next_weight = 0.0f;
    float c[2][4] = {};
    for (int batch = 0; batch < chunks; batch += kPairAhead) {
      const unsigned char* from = at + kPairAhead * 64;
      int left = row_bytes - (batch + kPairAhead) * 64 - t * 16;
      bool more = true;
      if (batch + kPairAhead >= chunks) {  // the next batch is of the next patches
        more = next_tile < m;
        from = rows + patch_of(next_tile) * stride;
        left = row_bytes - t * 16;
        if (more) {
          next_scale = scale_of(p.patches, first + patch_of(next_tile));
          next_weight = p.weights == nullptr ? 0.0f : p.weights[first + patch_of(next_tile)];
        }
      }
      HA_UNROLL
      for (int i = 0; i < kPairAhead; ++i) {
        if (kWhole || batch + i < chunks) {
          HA_UNROLL
          for (int half = 0; half < Operand::kHalves; ++half) {
            uint32_t a[4];
            Operand::eight(piece[i], half, a);
            Operand::multiply(c[i % 2], a, own[((batch + i) * Operand::kHalves + half) * 16].b);
          }
        }
        if (more) piece[i] = load_chunk_piece<kWhole>(from, i, left);
      }
      at = from;
    }
    const float of_columns = (c[0][0] + c[1][0]) + (c[0][3] + c[1][3]);
    const float of_other = __shfl_xor_sync(kAllLanes, of_columns, 1);
    const float similarity = (t % 2 == 0 ? of_columns + of_other * (1.0f / kLeftOver)
                                         : of_other + of_columns * (1.0f / kLeftOver)) * scale;
    if (tile + g < m) pool_add(p.settings, pool, similarity, weight);
    tile = next_tile;
    scale = next_scale;
    weight = next_weight;
  }
  pool = merge_rows(p.settings, pool);
  if (lane == 0) pools[warp] = pool;
  __syncthreads();
  if (threadIdx.x == 0) {
    HA_UNROLL
    for (int w = 1; w < kPairWarps; ++w) pool = pool_merge(p.settings, pool, pools[w]);
    const float value = pooled(p.settings, pool, m);
    p.scores[pair] = p.global.values != nullptr ? mixed(p.settings, value, *of_whole) : value;
  }
}

// An image a block, with the texts that ask for it. Here the patches are B, 8 of them in a fragment, so that a load's
// words are operands as they are, and 16 rows of texts are A. Rows g and g + 8 are two texts, or the two parts of one:
// then a lane that has a similarity also has what rounding left over of it.
constexpr int kImageRerankWarps = 4;
constexpr int kImageRerankThreads = kImageRerankWarps * kLanes;
constexpr int kImageRerankPatches = 16;  // of a warp at a time: two fragments, for each of which A is read once
constexpr int kImageRerankAhead = 4;     // chunks of 16 patches: eight loads of 16 bytes under way in every lane
constexpr int kTextRows = 16;            // of a fragment
constexpr int kMaxTextFragments = 2;
constexpr int kImagePools = kImageRerankWarps * 4;  // of each text: one for each t of every warp

// Shared memory: the texts' fragments, the pools, then of every text its global similarity, its pair and its row.
struct RerankTexts {
  Sixteen* fragments;  // fragment f, chunk k, step s of it: ((k * steps + s) * used + f) * kLanes + lane
  Pool<float>* pools;
  int64_t *pair, *row;
  float* of_whole;
};

inline size_t rerank_image_bytes(const Rows& patches, int fragments) {
  const int steps = patches.storage == Storage::i8 ? 4 : 2, rows = kTextRows * fragments;
  return static_cast<size_t>(chunks_of(patches)) * steps * fragments * kLanes * sizeof(Sixteen) +
         rows * (kImagePools * sizeof(Pool<float>) + 2 * sizeof(int64_t) + sizeof(float));
}

// Eight elements of a row at a multiple of 16 bytes, zeros behind its end; dim is a multiple of eight here.
template <Storage storage>
__device__ __forceinline__ void load_eight(const Rows& rows, int64_t r, int column, float (&x)[8]) {
  constexpr int size = Wide<storage>::kSize;
  const auto* from = reinterpret_cast<const Sixteen*>(row_of<storage>(rows, r) + column);
  HA_UNROLL
  for (int i = 0; i < 8 / size; ++i) {
    const Wide<storage> wide(column < rows.dim ? from[i] : Sixteen{});
    HA_UNROLL
    for (int e = 0; e < size; ++e) x[i * size + e] = wide.x[e];
  }
}

// Brings texts to shared memory as fragments: a thread has eight elements of rows g and g + 8.
template <Storage storage, Storage of_queries>
__device__ __forceinline__ void stage_texts_of(const RerankParameters& p, int texts, int used, const RerankTexts& to) {
  using Operand = PatchOperand<storage>;
  const int eights = chunks_of(p.patches) * 4 * Operand::kHalves;
  const bool split = p.columns_of_text == 2;
#pragma unroll 2
  for (int i = threadIdx.x; i < used * 8 * eights; i += kImageRerankThreads) {
    const int pair_of_rows = i / eights, eight = i % eights, f = pair_of_rows / 8, g = pair_of_rows % 8;
    const int half = eight % Operand::kHalves, t = eight / Operand::kHalves % 4, chunk = eight / Operand::kHalves / 4;
    const int text = split ? pair_of_rows : f * kTextRows + g, other = text + 8;
    float x[8], y[8];
    // Rows behind the last text repeat it; nobody reads their products.
    load_eight<of_queries>(p.queries, to.row[text < texts ? text : texts - 1], eight * 8, x);
    if (!split) load_eight<of_queries>(p.queries, to.row[other < texts ? other : texts - 1], eight * 8, y);
    const Sixteen of_row = Operand::round(x), of_other = Operand::round(split ? x : y);
    HA_UNROLL
    for (int step = 0; step < 2; ++step)
      to.fragments[((chunk * Operand::kHalves * 2 + half * 2 + step) * used + f) * kLanes + 4 * g + t] = {
          of_row.word[2 * step], of_other.word[2 * step], of_row.word[2 * step + 1], of_other.word[2 * step + 1]};
  }
}

template <Storage storage>
__device__ __forceinline__ void stage_texts(const RerankParameters& p, int texts, int used, const RerankTexts& to) {
  switch (p.queries.storage) {
    case Storage::f32:
      return stage_texts_of<storage, Storage::f32>(p, texts, used, to);
    case Storage::f16:
      return stage_texts_of<storage, Storage::f16>(p, texts, used, to);
    default:
      return stage_texts_of<storage, Storage::bf16>(p, texts, used, to);
  }
}

// Takes in several similarities, those that are `valid`: as pool_add for each, but a softmax shrinks once for all.
template <int count>
__device__ __forceinline__ void pool_add_several(const PatchSettings& s, Pool<float>& pool,
                                                 const float (&similarity)[count], const float (&weight)[count],
                                                 const bool (&valid)[count]) {
  if (s.pooling != Pooling::softmax) {
    HA_UNROLL
    for (int i = 0; i < count; ++i)
      if (valid[i]) pool_add(s, pool, similarity[i], weight[i]);
    return;
  }
  float top = pool.top;
  HA_UNROLL
  for (int i = 0; i < count; ++i)
    if (valid[i]) top = larger(top, similarity[i]);
  const float shrunk = quick_exp((pool.top - top) * s.inverse_temperature);
  pool = {top, pool.mass * shrunk, pool.acc * shrunk};
  HA_UNROLL
  for (int i = 0; i < count; ++i) {
    const float share = valid[i] ? quick_exp((similarity[i] - top) * s.inverse_temperature) : 0.0f;
    pool.mass += share;
    pool.acc += share * similarity[i];
  }
}

// Pools the similarities of an image's patches with the texts of kUsed fragments, this warp's share of the patches,
// into of_texts.pools. `begin` brings the texts; it is called when the first patches are under way.
template <Storage storage, int kUsed, bool kWhole, class Begin>
__device__ __forceinline__ void pool_patches(const RerankParameters& p, int64_t first, int64_t m,
                                             const RerankTexts& of_texts, Begin begin) {
  using Operand = PatchOperand<storage>;
  constexpr int kAhead = kImageRerankAhead;
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const int chunks = chunks_of(p.patches), row_bytes = row_bytes_of(p.patches);
  const bool split = p.columns_of_text == 2;
  const int64_t stride = p.patches.stride * element_size(storage);
  const auto* rows = static_cast<const unsigned char*>(p.patches.values) + first * stride + t * 16;
  const auto patch_of = [&](int64_t row) { return row < m ? row : m - 1; };  // the last again behind the end

  int64_t tile = warp * kImageRerankPatches;
  const unsigned char* at[2];
  Sixteen piece[kAhead][2];
  HA_UNROLL
  for (int j = 0; j < 2; ++j) at[j] = rows + patch_of(tile + g + 8 * j) * stride;
  HA_UNROLL
  for (int i = 0; i < kAhead; ++i)
    HA_UNROLL
    for (int j = 0; j < 2; ++j) piece[i][j] = load_chunk_piece<kWhole>(at[j], i, row_bytes - t * 16);
  begin();

  Pool<float> pool[kUsed][2];  // of rows g and g + 8 of each fragment; one of the two where they are one text
  HA_UNROLL
  for (int f = 0; f < kUsed; ++f) pool[f][0] = pool[f][1] = empty_pool(0.0f);
  while (tile < m) {
    const int64_t next_tile = tile + kImageRerankWarps * kImageRerankPatches;
    // This lane's columns of the two fragments: patches 2t, 2t + 1, 8 + 2t, 9 + 2t of the tile.
    float scale[4], weight[4];
    bool valid[4];
    HA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t patch = tile + i / 2 * 8 + 2 * t + i % 2;
      valid[i] = patch < m;
      scale[i] = scale_of(p.patches, first + patch_of(patch));
      weight[i] = p.weights == nullptr ? 0.0f : p.weights[first + patch_of(patch)];
    }
    float c[kUsed][2][4] = {};
    for (int batch = 0; batch < chunks; batch += kAhead) {
      int left = row_bytes - (batch + kAhead) * 64 - t * 16;
      bool more = true;
      HA_UNROLL
      for (int j = 0; j < 2; ++j) at[j] += kAhead * 64;
      if (batch + kAhead >= chunks) {  // the next batch is of the next patches
        more = next_tile < m;
        left = row_bytes - t * 16;
        HA_UNROLL
        for (int j = 0; j < 2; ++j) at[j] = rows + patch_of(next_tile + g + 8 * j) * stride;
      }
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (kWhole || batch + i < chunks) {
          HA_UNROLL
          for (int half = 0; half < Operand::kHalves; ++half) {
            uint32_t words[2][4];
            HA_UNROLL
            for (int j = 0; j < 2; ++j) Operand::eight(piece[i][j], half, words[j]);
            const Sixteen* a_at =
                of_texts.fragments + ((batch + i) * Operand::kHalves + half) * 2 * kUsed * kLanes + lane;
            HA_UNROLL
            for (int step = 0; step < 2; ++step)
              HA_UNROLL
              for (int f = 0; f < kUsed; ++f) {
                const Sixteen a = a_at[(step * kUsed + f) * kLanes];
                HA_UNROLL
                for (int j = 0; j < 2; ++j)
                  Operand::multiply(c[f][j], a.word, {words[j][2 * step], words[j][2 * step + 1]});
              }
          }
        }
        if (more)
          HA_UNROLL
          for (int j = 0; j < 2; ++j) piece[i][j] = load_chunk_piece<kWhole>(at[j], i, left);
      }
    }
    HA_UNROLL
    for (int f = 0; f < kUsed; ++f) {
      float of_row[4], of_other[4];
      HA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float low = c[f][i / 2][i % 2], high = c[f][i / 2][2 + i % 2];
        of_row[i] = (split ? low + high * (1.0f / kLeftOver) : low) * scale[i];
        of_other[i] = high * scale[i];
      }
      pool_add_several(p.settings, pool[f][0], of_row, weight, valid);
      if (!split) pool_add_several(p.settings, pool[f][1], of_other, weight, valid);
    }
    tile = next_tile;
  }
  Pool<float>* to = of_texts.pools + (warp * 4 + t) * kUsed * kTextRows;
  HA_UNROLL
  for (int f = 0; f < kUsed; ++f)
    HA_UNROLL
    for (int j = 0; j < 2; ++j)
      if (!split || j == 0) to[split ? 8 * f + g : kTextRows * f + 8 * j + g] = pool[f][j];
}

template <Storage storage, bool kWhole>
__global__ void __launch_bounds__(kImageRerankThreads, 4) rerank_image_kernel(RerankParameters p) {
  HA_SHARED_MEMORY(shared);
  constexpr int steps = 2 * PatchOperand<storage>::kHalves;
  const int most_rows = kTextRows * p.fragments, at_once = most_rows / p.columns_of_text;
  RerankTexts of_texts;
  of_texts.fragments = reinterpret_cast<Sixteen*>(shared);
  of_texts.pair =
      reinterpret_cast<int64_t*>(of_texts.fragments + chunks_of(p.patches) * steps * p.fragments * kLanes);
  of_texts.row = of_texts.pair + most_rows;
  of_texts.of_whole = reinterpret_cast<float*>(of_texts.row + most_rows);
  of_texts.pools = reinterpret_cast<Pool<float>*>(of_texts.of_whole + most_rows);
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;

  const AskedImage asked = asked_image(p.asked, blockIdx.x, p.patches.items);
  const int64_t first = asked.image < 0 ? 0 : p.patches.start(asked.image);
  const int64_t m = asked.image < 0 ? 0 : p.patches.start(asked.image + 1) - first;
  if (m == 0) {
    for (int64_t entry = asked.first + threadIdx.x; entry < asked.last; entry += kImageRerankThreads)
      p.scores[pair_at(p.asked, entry)] = -INFINITY;
    return;
  }
  for (int64_t entry = asked.first; entry < asked.last; entry += at_once) {
    const int texts = asked.last - entry < at_once ? static_cast<int>(asked.last - entry) : at_once;
    const int used = (texts * p.columns_of_text + kTextRows - 1) / kTextRows;
    const auto begin = [&] {
      __syncthreads();  // the texts before are no longer read
      if (threadIdx.x < texts) {
        of_texts.pair[threadIdx.x] = pair_at(p.asked, entry + threadIdx.x);
        of_texts.row[threadIdx.x] = text_of_pair(p.asked, of_texts.pair[threadIdx.x]);
      }
      __syncthreads();
      stage_texts<storage>(p, texts, used, of_texts);
      if (p.global.values != nullptr)
        for (int text = warp; text < texts; text += kImageRerankWarps) {
          const float whole = product_of_rows(p.queries, of_texts.row[text], p.global, asked.image, lane);
          if (lane == 0) of_texts.of_whole[text] = whole;
        }
      __syncthreads();
    };
    static_assert(kMaxTextFragments == 2, "each number of fragments has code of its own, without branches");
    if (used == 1) {
      pool_patches<storage, 1, kWhole>(p, first, m, of_texts, begin);
    } else {
      pool_patches<storage, 2, kWhole>(p, first, m, of_texts, begin);
    }
    __syncthreads();
    // Four threads a text, each the pools of a warp's rows, in a fixed order.
    for (int i = threadIdx.x; i < (texts * 4 + kLanes - 1) / kLanes * kLanes; i += kImageRerankThreads) {
      const int text = i / 4 < texts ? i / 4 : texts - 1, quarter = i % 4;
      const Pool<float>* of_warp = of_texts.pools + quarter * 4 * used * kTextRows + text;
      Pool<float> all = of_warp[0];
      HA_UNROLL
      for (int k = 1; k < 4; ++k) all = pool_merge(p.settings, all, of_warp[k * used * kTextRows]);
      HA_UNROLL
      for (int step = 1; step < 4; step *= 2) {
        const Pool<float> other{__shfl_xor_sync(kAllLanes, all.top, step), __shfl_xor_sync(kAllLanes, all.mass, step),
                                __shfl_xor_sync(kAllLanes, all.acc, step)};
        all = quarter & step ? pool_merge(p.settings, other, all) : pool_merge(p.settings, all, other);
      }
      const float value = pooled(p.settings, all, m);
      if (quarter == 0 && i / 4 < texts)
        p.scores[of_texts.pair[text]] =
            p.global.values != nullptr ? mixed(p.settings, value, of_texts.of_whole[text]) : value;
    }
  }
}

}  // namespace heritage_align
