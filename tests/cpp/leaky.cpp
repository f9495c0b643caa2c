// A table that is in order beside a function that is not: check_symbols must refuse it.
namespace rnnfast {

inline int shared(int x) { return x + 1; }

namespace leaky {

extern int (*const table_float)(int);
int (*const table_float)(int) = shared;

}  // namespace leaky
}  // namespace rnnfast
