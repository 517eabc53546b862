// How a kernel ended. Kernels throw nothing: bad data and a lack of memory are both values.
#pragma once

namespace nnr {

enum class Status : int {
  ok = 0,
  truncated = 1,           // the codeword ended before the tensor did
  value_out_of_range = 2,  // a coded value that its type or its codebook cannot hold
  bad_entry_point = 3,     // an entry point that the codeword contradicts
  bad_block_row = 4,       // the arithmetic coder cannot be where a block row begins
  no_terminate_bin = 5,    // the codeword goes on after the last tensor
  bad_stop_bit = 6,        // the bits after the terminate bin are not one 1 and zeros
  trailing_bytes = 7,      // bytes follow the codeword
  out_of_memory = 8,
};

}  // namespace nnr
