"""Compiles an extension, as torch's compiler does."""

import subprocess
import sys
from pathlib import Path

source = Path(sys.argv[1]) / "kernel.cpp"
source.write_text(
    "#include <map>\n#include <string>\n#include <vector>\n#include <regex>\n#include <iostream>\n"
    "template<int N> struct F { static long f(std::map<std::string, std::vector<int>> m) {"
    " std::map<std::string, std::vector<long>> q; for (auto& p : m) q[p.first].push_back(N);"
    ' std::regex r("a+b"); return F<N-1>::f(m) + q.size(); } };\n'
    "template<> struct F<0> { static long f(std::map<std::string, std::vector<int>>) {"
    " return 0; } };\nint main() { return F<800>::f({}); }\n"
)


def build() -> None:
    print("ready", flush=True)
    subprocess.run(["g++", "-O3", "-ftemplate-depth=2000", "-c", str(source), "-o", "/dev/null"])


while True:
    build()
