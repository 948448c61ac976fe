r"""Proves the kinds of answer that graders of mathematics get wrong, right and wrong ones of each.

Run: python -m pytest tests/grading/test_kinds.py

A line is `right` or `wrong`, the answer in its box, and the gold answer. Most kinds come from public reports
of faults in graders. Of each kind this grader had some lines wrong when it rewrote text for math-verify.
"""

import pytest

from thinkless.grading import is_correct

KINDS = {
    "lists and thousands": r"""
        right | 144, 12               | 12, 144
        right | 12,144                | 12, 144
        right | 100,\ 200             | 200, 100
        right | 144; 12               | 12;\quad 144
        right | $144$, $12$           | $12$,$144$
        right | 12 and 144            | 12, 144
        right | \{5, 125\}            | 5, 125
        right | 315,225,135,45        | 45^\circ, 135^\circ, 225^\circ, 315^\circ
        right | 1,000, 2,000          | 2000, 1000
        right | 100,200,300           | 100, 200, 300
        right | (13, 169), (12, 144)  | (12, 144), (13, 169)
        right | (5,125)               | (5, 125)
        right | 1{,}234{,}567         | 1234567
        right | 1\,234\,567           | 1,234,567
        right | x = 144, x = 12       | 12, 144
        right | 6, 8\text{, and } 10  | 10, 8, 6
        right | 1, -2                 | 1, 1, -2
        right | {1, 2, 3}             | 3, 2, 1
        wrong | 12144                 | 12, 144
        wrong | 100200300             | 100, 200, 300
        wrong | 3, 141                | 3,141
        wrong | (144, 12)             | (12, 144)
        wrong | 12                    | 12, 144
        wrong | 12, 144, 7            | 12, 144
        wrong | 3,14                  | 3.14
        wrong | {1, 2}                | 1, 2, 3
        wrong | 1.000.000             | 1000000
        """,
    "very small and very large numbers": r"""
        wrong | \frac{1}{2^{97}}        | \frac{1}{2^{98}}
        wrong | e^{-49}                 | e^{-50}
        wrong | e^{-1000}               | e^{-1001}
        wrong | \frac{1}{2006!}         | \frac{1}{2004!}
        wrong | 10^{-400}               | 0
        wrong | 2^{1000}                | 2^{1000}+1
        wrong | 2^{1000}\pi             | (2^{1000}+1)\pi
        wrong | \sqrt{1+10^{-40}}       | 1
        wrong | \sqrt{3}\cdot 10^{-20}  | \sqrt{2}\cdot 10^{-20}
        wrong | 1.5 \times 10^{-20}     | 1.6 \times 10^{-20}
        right | \frac{1}{100!}          | \frac{101}{101!}
        right | 2^{-99}                 | \frac{1}{2^{99}}
        right | 3^{1024}                | 3^{2^{10}}
        right | \sqrt{10^{40}}          | 10^{20}
        right | \binom{200}{100}        | \frac{200!}{(100!)^2}
        """,
    "hedges and negations": r"""
        wrong | \ne 5                         | 5
        wrong | \not= 5                       | 5
        wrong | \geq 5                        | 5
        wrong | > 5                           | 5
        wrong | x > 5                         | 5
        wrong | \text{not } 5                 | 5
        wrong | \text{at least } 5            | 5
        wrong | 5\text{ or more}              | 5
        wrong | 5\text{ (or six)}             | 5
        wrong | 5 \text{ or maybe six}        | 5
        wrong | 5, \text{ maybe } 6           | 5
        wrong | 5\text{ is wrong}             | 5
        wrong | 5?                            | 5
        wrong | 5-                            | 5
        wrong | 5 \pm 1                       | 5
        wrong | x=1 \text{ or } x=5           | 5
        wrong | 1 \le x \le 5                 | 5
        wrong | 5 apples six pears            | 5
        wrong | C A B D E                     | \text{(C)}
        wrong | (A) or (C)                    | \text{(C)}
        wrong | C. A. B.                      | \text{(C)}
        wrong | AC                            | A
        wrong | \text{Not A}                  | A
        wrong | A \text{ is wrong}            | A
        wrong | yes or no                     | \text{yes}
        wrong | not even                      | \text{even}
        right | \approx 5                     | 5
        """,
    "words that change a number": r"""
        wrong | 5\text{ squared}              | 5
        wrong | 5\text{ halves}               | 5
        wrong | 5\text{ and a half}           | 5
        wrong | 5\text{ tens}                 | 5
        wrong | 5\text{ dozen}                | 5
        wrong | 5\text{ factorial}            | 5
        wrong | 5\text{ plus } 1              | 5
        wrong | 5\text{ e}                    | 5
        wrong | 5万                           | 5
        wrong | 5 mod 7                       | 5
        right | 5 \text{ dozen}               | 60
        right | 1.5\text{ million}            | 1500000
        right | 2 hundred                     | 200
        """,
    "repeating decimals": r"""
        right | 0.\overline{3}                | \frac13
        right | \frac{4}{11}                  | 0.\overline{36}
        right | 0.3\bar{6}                    | \frac{11}{30}
        right | 0.\dot{1}2\dot{3}             | \frac{41}{333}
        right | 0.(3)                         | \frac13
        right | 0.333\ldots                   | \frac13
        right | 0.1666...                     | \frac16
        right | 0.142857142857…               | \frac17
        right | 0.3̅                           | \frac13
        right | -2.\overline{3}               | -\frac73
        right | 33.\overline{3}\%             | \frac13
        right | 1                             | 0.\overline{9}
        right | 0.333333                      | 0.\overline{3}
        wrong | 0.33                          | 0.\overline{3}
        wrong | 0.\overline{34}               | 0.\overline{43}
        wrong | 0.1\overline{6}               | 0.16
        right | 0.{\overline{3}}              | \frac13
        right | 0.\overline{\,3\,}            | \frac13
        right | 0.333 repeating               | \frac13
        right | 0.\widebar{27}                | \frac{3}{11}
        """,
    "units": r"""
        right | 60 km/h                       | 60
        right | 5 N                           | 5
        right | 5kg                           | 5
        right | 5 m/s^2                       | 5
        right | 9.8\ \frac{\text{m}}{\text{s}^2} | 9.8
        right | 5\,\text{kg}\cdot\text{m}/\text{s}^2 | 5
        right | 9.8\,\mathrm{m\,s^{-2}}       | 9.8
        right | 5\,\mu\text{m}                | 5
        right | 5\,\Omega                     | 5
        right | 90 °C                         | 90
        right | 5 个                          | 5
        right | 5 square feet                 | 5 \text{ ft}^2
        right | 5 years old                   | 5
        right | \$5 per hour                  | 5
        right | 5 small apples                | 5
        right | 90 \text{ minutes}            | 1.5\text{ hours}
        right | 100\text{ cm}                 | 1\text{ m}
        right | 1000\text{ cm}^3              | 1\text{ L}
        right | \$0.80                        | 80\text{ cents}
        right | 15\% \text{ increase}         | 15\%
        right | 5\text{ kN}                   | 5000\text{ N}
        right | 5\text{ N}                    | 5\text{ kg m/s}^2
        right | 25\text{ mph}                 | 25\text{ miles per hour}
        right | 5\text{ years}                | 60\text{ months}
        right | 5\text{ kilojoules}           | 5000\text{ J}
        right | 2\text{ quarts}               | 4\text{ pints}
        right | 5 units                       | 5\text{ cm}
        right | 90^\circ C                    | 90^\circ
        right | 90\text{ degrees Celsius}     | 90
        right | 1\text{ hour } 30\text{ minutes} | 90\text{ minutes}
        right | 5\text{ feet and } 6\text{ inches} | 66\text{ in}
        right | -\$5                          | -5
        wrong | 5\text{ kN}                   | 5\text{ N}
        wrong | 5\,\mu\text{m}                | 5\text{ m}
        wrong | 5\text{ milliseconds}         | 5\text{ seconds}
        wrong | 5\text{ years}                | 5\text{ months}
        wrong | 5\text{ mph}                  | 5\text{ km/h}
        wrong | 5\text{ rad}                  | 5^\circ
        wrong | 90^\circ C                    | 90^\circ F
        wrong | £5                            | \$5
        wrong | 5\text{ kg}                   | 5\text{ euros}
        wrong | 5\text{ apples}               | 5\text{ kg}
        wrong | 5\text{ quarts}               | 5\text{ pints}
        wrong | 1\text{ hour } 30\text{ minutes} | 1\text{ hour}
        wrong | 5\text{ apples } 6\text{ pears} | 11
        wrong | 30\text{ minutes}             | 30\text{ hours}
        wrong | 15\text{ cm}                  | 15\text{ cm}^2
        wrong | 20\%                          | 20\text{ miles}
        wrong | 0.80                          | 80\text{ cents}
        wrong | \frac{\pi}{6}                 | 30^\circ
        wrong | 2                             | 2m
        wrong | 5m                            | 5
        wrong | 5 x                           | 5
        wrong | 5/h                           | 5
        right | 5 GB                          | 5
        right | 5 kcal                        | 5
        right | 5 sq. cm                      | 5
        right | 5 μm                          | 5
        right | 5℃                            | 5
        right | 5 each                        | 5
        right | 5 times                       | 5
        right | 5{}^\circ                     | 5
        right | ₩5                            | 5
        wrong | 5 times x                     | 5
        wrong | 5 \text{ twos}                | 5
        wrong | 5 ...                         | 5
        wrong | 5 AUD                         | 5 CAD
        wrong | 5 \text{ ninths}              | 5
        """,
    "times and ratios": r"""
        right | 8:34 p.m.                     | 8\!:\!34 \text{ p.m.}
        right | 8:34 \text{ PM}               | 8\!:\!34 \text{ p.m.}
        right | 7:00 pm                       | 7\text{ p.m.}
        wrong | 8:34 a.m.                     | 8\!:\!34 \text{ p.m.}
        wrong | 8:35 p.m.                     | 8\!:\!34 \text{ p.m.}
        wrong | 1:00                          | 12:00
        right | 2:4                           | 1:2
        right | 3 \text{ to } 4               | 3:4
        right | 1 : 2                         | \frac12
        right | 2:4:6                         | 1:2:3
        wrong | 4:3                           | 3:4
        wrong | 1:4:9:\ldots                  | 1:2:3:\ldots
        right | 3{:}00\ \text{PM}             | 3 p.m.
        right | noon                          | 12:00 \text{ p.m.}
        right | \text{midnight}               | 12 a.m.
        right | 14:30                         | 2:30 p.m.
        wrong | 14:30                         | 2:30 a.m.
        wrong | noon                          | 12 a.m.
        """,
    "numbers in words": r"""
        right | five                          | 5
        right | 7                             | \text{seven}
        right | twenty-five                   | 25
        right | \text{Twenty Five}            | 25
        right | \text{one hundred and five}   | 105
        right | \text{two thousand three hundred forty-one} | 2341
        right | \text{zero}                   | 0
        right | \text{negative five}          | -5
        right | \text{two-thirds}             | \frac23
        right | \text{three quarters}         | 0.75
        right | \text{two and a half}         | 2.5
        right | \text{one half}               | \frac12
        right | five apples                   | 5
        right | \text{fifty cents}            | \$0.50
        right | \text{five percent}           | 5\%
        right | \text{one to five}            | 1:5
        right | \text{two and three}          | 2, 3
        right | \text{six hundred thousand}   | 600000
        wrong | \text{twenty-five}            | 5
        wrong | \text{twenty-five}            | 20
        wrong | \text{two hundred}            | 2
        wrong | \text{fifteen}                | 50
        wrong | \text{five or six}            | 5
        wrong | \text{not five}               | 5
        wrong | \text{at most five}           | 5
        wrong | \text{one in five}            | 5
        wrong | \text{five squared}           | 5
        wrong | \text{two and three}          | 5
        wrong | \text{five one}               | 51
        wrong | \text{five zero}              | 5
        wrong | \text{one and a half}         | 1
        right | \text{a hundred}              | 100
        right | \text{a dozen}                | 12
        right | \text{one and two thirds}     | 5/3
        wrong | \text{ten-two}                | 8
        wrong | \text{five ninths}            | 5
        """,
    "choices and words": r"""
        right | C and B                       | \text{B,C}
        right | E, H                          | \text{H, E}
        right | \textbf{(C) } 7               | C
        right | \text{A}: 5                   | A
        right | a                             | A
        right | \text{Evelyn}                 | evelyn
        right | no solutions                  | \emptyset
        right | kickball, softball and picnic | \text{Softball, Kickball, Picnic}
        right | odd                           | \text{odd}
        wrong | dod                           | \text{odd}
        wrong | Fridays                       | \text{Friday}
        wrong | third                         | 3
        wrong | October 31                    | \text{October 30}
        wrong | 0                             | \emptyset
        right | The answer is D               | D
        right | A & E                         | A, E
        right | DNE                           | \text{does not exist}
        right | \text{empty set}              | \emptyset
        wrong | (A) is wrong                  | A
        wrong | (A) is not correct            | A
        wrong | A cannot be right             | A
        wrong | (A) unless x=0                | A
        wrong | A?                            | A
        """,
    "other countries": r"""
        right | US\$5                         | \$5
        right | US$ 12.50                     | 12.50
        right | USD 5                         | \$5
        wrong | USD 5                         | 6
        right | 2'500                         | 2500
        right | 1'234'567                     | 1234567
        wrong | 2'500                         | 2.5
        right | \lg 1000                      | 3
        wrong | \lg 1000                      | \ln 1000
        """,
    "ordinals": r"""
        right | 21st                          | 21
        right | 3^{\text{rd}}                 | 3
        right | 12^{\text{th}}\text{ grade}   | 12\text{th grade}
        wrong | 12^{\mathrm{th}} grade        | 12
        wrong | 12th grade                    | 12
        """,
    "intervals and inequalities": r"""
        right | \{x \mid 1 \le x \le 2\}      | [1,2]
        right | \{x \in \mathbb{R} : x > 2\}  | (2,\infty)
        right | x<-1 \text{ or } x>1          | (1,\infty)\cup(-\infty,-1)
        right | |x|>1                         | (-\infty,-1)\cup(1,\infty)
        right | (-2,2)                        | x^2<4
        right | ]-\infty, 3[                  | (-\infty,3)
        right | 2 \ge x \ge 1                 | [1,2]
        right | x \neq 1                      | (-\infty,1)\cup(1,\infty)
        right | \mathbb{R}\setminus\{1\}      | (-\infty,1)\cup(1,\infty)
        right | [1,2]\cup[2,3]                | [1,3]
        right | \left[\frac{29}{5},6\right)   | [5.8,6)
        wrong | |x| \ge 1                     | (-\infty,-1)\cup(1,\infty)
        right | [1,3]\setminus\{2\}           | [1,2)\cup(2,3]
        right | x > 0, x \ne 5                | (0,5)\cup(5,\infty)
        right | x \ne 5, x \ne 4              | x \ne 4, x \ne 5
        right | (1,2]\cap(3,4)                | (3,4)\cap(1,2]
        wrong | x > 0                         | x > 0, x \ne 5
        wrong | [0,5]\setminus\{2\}           | [0,5]\setminus(2,2]
        wrong | (-2,2)                        | x^2<4.0000001
        wrong | (1,2)                         | [1,2]
        wrong | a \ge 1                       | a > 1
        right | x>1, x<2                      | (1,2)
        right | x<2,\ x \ge 1                 | [1,2)
        right | x>2, x<1                      | (-\infty,1)\cup(2,\infty)
        wrong | x>1 \text{ or } x<2           | (1,2)
        wrong | x>1, x<2                      | (1,2]
        right | x=(1,2,3), x=(4,5,6)          | x=(4,5,6), x=(1,2,3)
        wrong | x=(1,2,3), x=(4,5,6)          | (1,2)
        wrong | (\frac{3}{2}, -13]            | (\frac{3}{2}, -13)
        wrong | [5,2)                         | (5,2)
        wrong | (2,2]                         | (2,2)
        wrong | [5,2]                         | \emptyset
        wrong | [3,9)                         | [3,7]\cup[8,9)
        right | x\in(-\infty,2)\cup(2,\infty) | x \ne 2
        right | (-oo, -2) U (2, oo)           | (-\infty,-2)\cup(2,\infty)
        right | \mathbb{R} - \{0\}            | (-\infty,0)\cup(0,\infty)
        right | \{x \mid x \in \mathbb{R}, x > 2\} | (2,\infty)
        right | \left\lbrace x : x>2\right\rbrace | (2,\infty)
        wrong | y\in(-\infty,2)\cup(2,\infty) | x \ne 2
        wrong | \mathbb{R} - \{1\}            | (-\infty,0)\cup(0,\infty)
        """,
    "points, sets and names": r"""
        right | x=4, y=5                      | (4,5)
        right | y=5, x=4                      | (4,5)
        right | m=4, b=5                      | (4,5)
        right | 4, 5                          | x=4, y=5
        right | x_1 = 2, x_2 = -7             | -7, 2
        right | \{5\}                         | 5
        right | \{\}                          | \emptyset
        right | \text{all real numbers}       | (-\infty,\infty)
        right | \mp 3                         | \pm 3
        right | \sin\theta = \frac12          | \frac12
        right | \frac{dy}{dx} = 2x            | 2x
        right | 2F_{16}                       | \text{2f}_{16}
        right | \text{Option D}               | D
        wrong | y=4, x=5                      | (4,5)
        wrong | 5, 4                          | x=4, y=5
        wrong | \{4,5\}                       | (4,5)
        wrong | \{4,5\}                       | [4,5]
        wrong | \{\{1,2\}\}                   | \{1,2\}
        wrong | \{\emptyset\}                | \emptyset
        wrong | \sin x = 5                    | x = 5
        wrong | 2a                            | 2a_{11}
        right | \{(1, 2)\}                    | (1, 2)
        right | x=3 \lor x=4                  | 3, 4
        right | \begin{cases} x=3 \\ x=4 \end{cases} | 3, 4
        right | 5=x                           | 5
        right | P(X=2)=\frac12                | \frac12
        right | P(A\cap B)=\frac12            | \frac12
        right | (1, 2)                        | \begin{bmatrix} 1 \\ 2 \end{bmatrix}
        right | 2\hat{i}-\hat{j}              | 2\mathbf{i} - \mathbf{j}
        right | 2\vec{\imath}                 | 2\hat i
        wrong | \{(1, 2), (3, 4)\}            | (1, 2)
        wrong | (2, 1)                        | \begin{bmatrix} 1 \\ 2 \end{bmatrix}
        wrong | 5=x+y                         | 5
        """,
    "matrices": r"""
        right | \begin{pmatrix} 1 \\[4pt] 2 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
        right | \left[\begin{array}{c} 1 \\ 2 \end{array}\right] | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
        right | \frac12\begin{bmatrix} 1 & 8 \end{bmatrix} | \begin{bmatrix} 2/4 & 4 \end{bmatrix}
        wrong | \begin{pmatrix} 1 & 2 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
        wrong | 6I                            | \begin{pmatrix} 6 & 0 \\ 0 & 6 \end{pmatrix}
        """,
    "equations": r"""
        wrong | 0                             | x+y=0
        wrong | x+y=0                         | 0
        wrong | 5x - 7y + 11z + 4 = 0         | 0
        wrong | x^2 = 0                       | 0
        wrong | xy = 6                        | 6
        wrong | 2x = 10                       | 5
        wrong | x+y=1                         | x+y=2
        right | x = 0                         | 0
        right | f(x) = 2x                     | 2x
        right | A = B = 5                     | 5
        right | \text{Area} = \pi r^2 = 9\pi   | 9\pi
        wrong | \text{Area} = \pi r^2 = 9\pi   | \pi r^2
        wrong | x = 2 = 3                     | 3
        right | \angle ABC = 60^\circ         | 60
        right | \text{Area} = 25              | 25
        right | (x,y) = (1,2)                 | (1,2)
        right | y=-x                          | x+y=0
        right | 3x^2+4y^2=12                  | \frac{x^2}{4}+\frac{y^2}{3}=1
        right | n \equiv 3 \pmod 5            | n \equiv 8 \pmod{5}
        wrong | n \equiv 3 \pmod 7            | n \equiv 3 \pmod{5}
        right | m+n = 3+42 = 45               | 45
        wrong | m+n = 2k = 45                 | 44
        """,
    "ASCII mathematics": r"""
        right | sqrt(5)                       | \sqrt{5}
        right | 3*sqrt(13)                    | 3\sqrt{13}
        right | pi/4                          | \frac{\pi}{4}
        right | 2**5                          | 32
        right | 5^(1/2)                       | \sqrt5
        right | (-sqrt(3),sqrt(3))            | (-\sqrt{3},\sqrt{3})
        right | 3\pm2*sqrt(2)                 | 3 \pm 2\sqrt2
        right | x**2 + 2*x*y + y**2           | (x+y)^2
        right | sin(pi/3)                     | \frac{\sqrt3}{2}
        right | 1/2 + sqrt(3)/2*i             | \frac12+\frac{\sqrt3}{2}i
        right | [sqrt(2), infinity)           | [\sqrt{2},\infty)
        right | x <= 3                        | (-\infty,3]
        right | 4\sqrt(2)                     | 4\sqrt{2}
        wrong | sqrt(19)                      | \sqrt{17}
        wrong | 2*sqrt(6)-1                   | 1+2\sqrt6
        """,
    "typography": r"""
        right | ⅓                             | 1/3
        right | 2⅔                            | 8/3
        right | 5√3                           | 5\sqrt3
        right | x²+1                          | x^2+1
        right | −π/4                          | -\frac{\pi}{4}
        right | ２                            | 2
        right | \textcolor{red}{5}            | 5
        right | \underline{\mathbf{5}}        | 5
        right | (\sin t)^2                    | \sin^2 t
        right | 1 \frac{1}{4}                 | 5/4
        right | 10 \choose 3                  | 120
        wrong | ②                             | 2
        wrong | \frac431                      | \frac43
        right | 5\,                           | 5
        right | \;5\:                         | 5
        right | {\bf 5}                       | 5
        right | \bf 5                         | 5
        right | \textcolor[rgb]{1,0,0}{5}     | 5
        right | \colorbox{yellow}{5}          | 5
        right | 5\tag{1}                      | 5
        right | \left.5\right.                | 5
        right | \ensuremath{5}                | 5
        right | 5\checkmark                   | 5
        right | 5 ✅                           | 5
        right | ≈ 5                           | 5
        right | 12^{th}                       | 12
        right | \begin{align*} x &= 42 \end{align*} | 42
        wrong | \phantom{5}0                  | 50
        wrong | ➖5                           | 5
        wrong | 5✖6                           | 56
        wrong | ❌ 5                          | 5
        """,
    "functions": r"""
        right | \sin^2(t)+\cos^2(t)           | 1
        right | \tan^{-1} 2                   | \arctan 2
        right | \frac{\ln 3}{\ln 2}           | \log_2 3
        right | 2\cos^2 x - 1                 | \cos 2x
        right | (-1)^{n+1}                    | -(-1)^n
        right | n!                            | n(n-1)!
        right | \sqrt{x^2}                    | |x|
        wrong | f(0)e^{-y}                    | f(0)e^{-x}
        right | 1+i\sqrt{3}                   | 2e^{i\pi/3}
        wrong | \sqrt{x^2}                    | x
        right | \gcd(12, 18, 30)              | 6
        right | binomial(5,2)                 | 10
        right | nCr(5, 2)                     | 10
        right | \tg x                         | \tan x
        right | log2(8)                       | 3
        right | 3+4*I                         | 3+4i
        right | theta/2                       | \frac{\theta}{2}
        right | 8*Pi                          | 8\pi
        right | Sqrt(2)                       | \sqrt2
        right | frac{1}{2}                    | \frac12
        right | 3 x 10^8                      | 300000000
        wrong | 3+4*I                         | 3-4i
        wrong | 3 x 10^8                      | 30
        right | \max\{3, \sqrt{17}\}          | \sqrt{17}
        right | min(3, 5)                     | 3
        right | \operatorname{lcm}(4, 6)      | 12
        right | {}_5C_2                       | 10
        right | ^{10}\mathrm{C}_3             | \binom{10}{3}
        right | {}_5P_2                       | 20
        right | 5 choose 2                    | 10
        right | 2\operatorname{cis}(60^\circ) | 1+i\sqrt3
        right | 4i                            | 4\text{cis}\frac{\pi}{2}
        right | 2\sec x                       | \frac{2}{\cos x}
        wrong | \gcd(12, 18)                  | 3
        wrong | \max(3, 5)                    | 3
        wrong | {}_5C_2                       | 20
        wrong | x_5C_2                        | 10
        wrong | \text{cis} 60^\circ           | \text{cis} 30^\circ
        wrong | \lceil n/2 \rceil             | \lfloor n/2 \rfloor
        wrong | 2-3i                          | 2+3i
        wrong | 2^5C_2                        | 20
        wrong | a_2P_1                        | 2a
        right | x^2C_1+C_2                    | C_1x^2+C_2
        wrong | I+i                           | 2i
        """,
}


def lines(kind: str) -> list[tuple[str, str, str]]:
    rows = [line.replace("|x|", "¦x¦").split("|") for line in KINDS[kind].strip().splitlines()]
    return [tuple(part.strip().replace("¦", "|") for part in row) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind):
    """Every line of a kind at once, so that a failure shows how far it goes."""
    verdicts = {"right": True, "wrong": False}
    rows = lines(kind)
    missed = [
        row for row in rows if is_correct(f"So it is $\\boxed{{{row[1]}}}$.", row[2]) is not verdicts[row[0]]
    ]
    assert missed == []
